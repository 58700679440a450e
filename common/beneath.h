#ifndef LIGER_COMMON_BENEATH_H_
#define LIGER_COMMON_BENEATH_H_

#include <string>

namespace liger {

// A descriptor of `path` below the open folder, or -1 with errno. What leads out
// of the folder is EXDEV or ELOOP: "..", and links that do or are absolute, also
// when the tree changes meanwhile (openat2, RESOLVE_BENEATH).
int OpenBeneath(int folder_fd, const std::string& path, int flags);

// That the errno of OpenBeneath says so.
bool LeadsOut(int error);

}  // namespace liger

#endif  // LIGER_COMMON_BENEATH_H_
