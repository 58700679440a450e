#include "client/local_file.h"

#include "client/errors.h"
#include "common/file.h"

namespace liger::client {

std::string ReadLocalFile(const std::string& path) {
  auto content = ReadFile(path, /*max_bytes=*/4 << 20);
  if (!content.ok()) throw CliError(kInvalidInput, std::string(content.status().message()));
  return *std::move(content);
}

}  // namespace liger::client
