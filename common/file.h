#ifndef LIGER_COMMON_FILE_H_
#define LIGER_COMMON_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace liger {

// Whole file. Errors name the path; NOT_FOUND when it does not exist,
// RESOURCE_EXHAUSTED when it is larger than max_bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = 1ll << 30);

// Writes beside `path` and renames over it, with file and folder synced:
// readers see the old content or the new, also after a power loss. On failure
// (disk full) nothing is left behind.
absl::Status WriteFileAtomically(const std::string& path, std::string_view content);

// Removes the half-written files in `dir` that a process left when it was killed
// in WriteFileAtomically. REQUIRES: nobody writes there.
void RemoveTemporaries(const std::string& dir);

// Writes all of `bytes`, over short writes and EINTR.
absl::Status WriteFully(int fd, std::string_view bytes, const std::string& path);

// fsync of a folder, so that a rename in it survives a power loss.
absl::Status SyncFolder(const std::string& path);

// As `mkdir -p`.
absl::Status MakeFolders(const std::string& path);

// "sha256:<hex>" of bytes, or of a file's content (streamed).
std::string Sha256(std::string_view bytes);
absl::StatusOr<std::string> Sha256File(const std::string& path);

}  // namespace liger

#endif  // LIGER_COMMON_FILE_H_
