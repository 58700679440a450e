#include "server/store/data_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/file.h"

namespace liger::server {

absl::StatusOr<std::unique_ptr<DataLock>> DataLock::Acquire(const std::string& folder) {
  const absl::Status made = MakeFolders(folder);
  if (!made.ok()) return made;
  const std::string path = absl::StrCat(folder, "/lock");
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  std::unique_ptr<DataLock> lock(new DataLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return absl::ErrnoToStatus(errno, path);
    const absl::StatusOr<std::string> pid = ReadFile(path);
    return absl::FailedPreconditionError(absl::StrCat(
        "another coordinator",
        pid.ok() ? " (pid " + std::string(absl::StripAsciiWhitespace(*pid)) + ")" : "",
        " uses the data folder ", folder, "; stop it, or give this one another folder"));
  }
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) != 0) return absl::ErrnoToStatus(errno, path);
  const absl::Status written = WriteFully(fd, pid, path);
  if (!written.ok()) return written;
  return lock;
}

DataLock::~DataLock() { close(fd_); }

}  // namespace liger::server
