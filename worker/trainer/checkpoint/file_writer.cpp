#include "worker/trainer/checkpoint/file_writer.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/bytes.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

// What one write call is given, so that digesting and writing take turns while
// the bytes are still in the cache.
constexpr size_t kChunk = size_t{4} << 20;

int Sync(int fd) {
  const SlowCall slow;
  return fsync(fd);
}

bool OutOfSpace(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

}  // namespace

int64_t FreeBytes(const std::string& path) {
  std::filesystem::path at = std::filesystem::absolute(path);
  struct statvfs status;
  while (statvfs(at.c_str(), &status) != 0) {
    if (errno != ENOENT || at == at.root_path()) return -1;
    at = at.parent_path();
  }
  if (status.f_blocks == 0) return -1;  // file systems that do not count (FUSE, procfs)
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

void RequireFreeBytes(const std::string& path, int64_t bytes) {
  const int64_t free = FreeBytes(path);
  if (free >= 0 && free < bytes) throw StorageError("cannot save to", path, ENOSPC, bytes);
}

TrainerError StorageError(const std::string& what, const std::string& path, int error,
                          int64_t bytes_needed) {
  std::string message = what + " " + path + ": " + std::strerror(error);
  if (OutOfSpace(error)) {
    if (bytes_needed > 0) {
      message += "; the save needs " + Bytes(bytes_needed);
    }
    if (const int64_t free = FreeBytes(path); free >= 0) {
      message += "; " + Bytes(free) + " are free there";
    }
  }
  return TrainerError(liger::v1::FAILURE_CLASS_STORAGE, message,
                      OutOfSpace(error)
                          ? "Free space on that disk (or raise its quota), or write elsewhere "
                            "(output.uri)."
                          : "Check output.uri, and that the worker may write there.")
      .File(path);
}

FileWriter::FileWriter(const std::string& path, int64_t bytes_needed)
    : path_(path),
      bytes_needed_(bytes_needed),
      fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
  if (fd_ < 0) throw StorageError("cannot create", path_, errno, bytes_needed_);
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) close(fd_);
}

void FileWriter::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), std::min(bytes.size(), kChunk));
    if (written < 0) {
      if (errno == EINTR) continue;
      throw StorageError("cannot write", path_, errno, bytes_needed_);
    }
    Tick();
    sha256_.Update(bytes.substr(0, written));
    bytes_ += written;
    bytes.remove_prefix(written);
  }
}

FileDigest FileWriter::Close() {
  // Some file systems report a full disk only here.
  if (Sync(fd_) != 0) throw StorageError("cannot write", path_, errno, bytes_needed_);
  const int result = close(std::exchange(fd_, -1));
  if (result != 0) throw StorageError("cannot write", path_, errno, bytes_needed_);
  return {bytes_, sha256_.Hex()};
}

void SyncFolder(const std::string& dir) {
  const int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool ok = fd >= 0 && Sync(fd) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  // EINVAL: file systems that cannot sync a folder need not.
  if (!ok && error != EINVAL) throw StorageError("cannot sync", dir, error, 0);
}

}  // namespace liger::trainer
