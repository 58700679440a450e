#ifndef LIGER_CLIENT_LOCAL_FILE_H_
#define LIGER_CLIENT_LOCAL_FILE_H_

#include <string>

namespace liger::client {

// A file the user named, of at most 4 MiB. Throws CliError with kInvalidInput
// for any that cannot be read, whatever the reason.
std::string ReadLocalFile(const std::string& path);

}  // namespace liger::client

#endif  // LIGER_CLIENT_LOCAL_FILE_H_
