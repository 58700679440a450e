#ifndef LIGER_WORKER_TRAINER_MAPPED_FILE_H_
#define LIGER_WORKER_TRAINER_MAPPED_FILE_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include "worker/trainer/error.h"

namespace liger::trainer {

// A regular file, mapped for reading.
class MappedFile {
 public:
  // Throws std::system_error when there is no such file or it cannot be read.
  explicit MappedFile(const std::string& path)
      // Not blocking: the open of a pipe would wait for a writer.
      : path_(path), fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    const int error = Map();
    if (error == 0) return;
    if (fd_ >= 0) close(fd_);
    throw std::system_error(error, std::generic_category());
  }
  ~MappedFile() {
    if (map_ != nullptr) munmap(map_, bytes_);
    close(fd_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return {map_, bytes_}; }

  // Throws TrainerError (STORAGE) when the file has been cut since it was
  // mapped: touching the pages that are gone would kill the process. Call it
  // before reading a piece.
  void RequireWhole() const {
    struct stat status;
    if (fstat(fd_, &status) == 0 && static_cast<size_t>(status.st_size) >= bytes_) return;
    throw TrainerError(
        liger::v1::FAILURE_CLASS_STORAGE,
        path_ + " was cut short while it was read: it had " + std::to_string(bytes_) + " bytes",
        "Put the whole file there again, and leave it alone while jobs read it.")
        .File(path_);
  }

 private:
  // 0 or errno.
  int Map() {
    struct stat status;
    if (fd_ < 0 || fstat(fd_, &status) != 0) return errno;
    if (S_ISDIR(status.st_mode)) return EISDIR;
    if (!S_ISREG(status.st_mode)) return EINVAL;
    if (status.st_size == 0) return 0;
    void* map = mmap(nullptr, status.st_size, PROT_READ, MAP_PRIVATE, fd_, 0);
    if (map == MAP_FAILED) return errno;
    map_ = static_cast<char*>(map);
    bytes_ = status.st_size;
    return 0;
  }

  const std::string path_;
  const int fd_;
  char* map_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MAPPED_FILE_H_
