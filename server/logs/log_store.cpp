#include "server/logs/log_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors/errors.h"

namespace liger::server {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kFullNotice =
    "\n[log ends here: the job's logs on the coordinator are full; the rest is on the worker]\n";

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  const int fd_;
};

absl::Status FileError(absl::string_view what, const std::string& path) {
  return absl::UnavailableError(absl::StrCat("cannot ", what, " ", path, ": ", strerror(errno)));
}

absl::Status WriteAll(int fd, const std::string& path, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t n = write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError("write", path);
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

bool EndsWithNotice(int fd, int64_t size) {
  std::string tail(kFullNotice.size(), '\0');
  const int64_t begin = size - static_cast<int64_t>(tail.size());
  return begin >= 0 &&
         pread(fd, tail.data(), tail.size(), begin) == static_cast<ssize_t>(tail.size()) &&
         tail == kFullNotice;
}

// Uids come from workers too; they become path components.
bool IsSafeComponent(absl::string_view s) {
  return !s.empty() && s.size() <= 128 && std::all_of(s.begin(), s.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

}  // namespace

LogStore::LogStore(std::string root, int64_t max_bytes_per_job)
    : root_(std::move(root)), max_bytes_per_job_(max_bytes_per_job) {}

absl::StatusOr<std::string> LogStore::PathOf(const LogKey& key) const {
  if (!IsSafeComponent(key.job_uid) || key.epoch < 0 || key.rank < 0) {
    return InvalidArgument("job", absl::StrCat("'", key.job_uid, "' names no log"));
  }
  return absl::StrCat(root_, "/", RelativePath(key));
}

std::string LogStore::RelativePath(const LogKey& key) {
  return absl::StrCat(key.job_uid, "/", key.epoch, "/rank", key.rank, ".log");
}

int64_t LogStore::JobBytes(const std::string& job_uid) {
  const auto [it, inserted] = job_bytes_.try_emplace(job_uid, 0);
  if (!inserted) return it->second;
  std::error_code error;
  for (fs::recursive_directory_iterator file(absl::StrCat(root_, "/", job_uid), error), end;
       !error && file != end; file.increment(error)) {
    if (file->is_regular_file(error)) it->second += static_cast<int64_t>(file->file_size(error));
  }
  return it->second;
}

absl::StatusOr<int64_t> LogStore::Append(const LogKey& key, int64_t offset,
                                         absl::string_view data) {
  absl::StatusOr<std::string> path = PathOf(key);
  if (!path.ok()) return path.status();
  const int64_t end = offset + static_cast<int64_t>(data.size());
  {
    absl::MutexLock lock(&mutex_);
    std::error_code error;
    fs::create_directories(fs::path(*path).parent_path(), error);
    if (error) {
      return absl::UnavailableError(absl::StrCat("cannot create ", *path, ": ", error.message()));
    }
    const Fd file(open(path->c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    struct stat info;
    if (!file.ok() || fstat(file.get(), &info) != 0) return FileError("open", *path);
    const int64_t room = std::max(max_bytes_per_job_ - JobBytes(key.job_uid),
                                  max_bytes_per_job_ / kReservedPart - info.st_size);
    if (room <= 0 && EndsWithNotice(file.get(), info.st_size)) return end;
    if (offset > info.st_size || end <= info.st_size) return info.st_size;

    data.remove_prefix(static_cast<size_t>(info.st_size - offset));
    const bool full = static_cast<int64_t>(data.size()) >= room;
    data = data.substr(0, static_cast<size_t>(std::max<int64_t>(0, room)));
    if (absl::Status status = WriteAll(file.get(), *path, data); !status.ok()) return status;
    job_bytes_[key.job_uid] += static_cast<int64_t>(data.size());
    if (full) {
      if (absl::Status s = WriteAll(file.get(), *path, kFullNotice); !s.ok()) return s;
      job_bytes_[key.job_uid] += static_cast<int64_t>(kFullNotice.size());
    }
  }
  Notify(key.job_uid);
  return end;
}

absl::StatusOr<int64_t> LogStore::Size(const LogKey& key) const {
  absl::StatusOr<std::string> path = PathOf(key);
  if (!path.ok()) return path.status();
  struct stat info;
  if (stat(path->c_str(), &info) == 0) return info.st_size;
  if (errno == ENOENT) return 0;
  return FileError("read", *path);
}

absl::StatusOr<std::string> LogStore::Read(const LogKey& key, int64_t offset,
                                           int64_t max_bytes) const {
  absl::StatusOr<std::string> path = PathOf(key);
  if (!path.ok()) return path.status();
  const Fd file(open(path->c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) {
    if (errno == ENOENT) return std::string();
    return FileError("read", *path);
  }
  std::string data(static_cast<size_t>(max_bytes), '\0');
  ssize_t n;
  do {
    n = pread(file.get(), data.data(), data.size(), offset);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return FileError("read", *path);
  data.resize(static_cast<size_t>(n));
  return data;
}

absl::Status LogStore::Remove(const std::string& job_uid) {
  if (!IsSafeComponent(job_uid)) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  job_bytes_.erase(job_uid);
  std::error_code error;
  fs::remove_all(absl::StrCat(root_, "/", job_uid), error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("cannot remove the logs of ", job_uid, ": ", error.message()));
}

int64_t LogStore::AddListener(const std::string& job_uid, std::function<void()> listener) {
  absl::MutexLock lock(&listeners_mutex_);
  const int64_t id = next_listener_++;
  listeners_[job_uid].emplace(id, std::move(listener));
  return id;
}

void LogStore::RemoveListener(const std::string& job_uid, int64_t id) {
  absl::MutexLock lock(&listeners_mutex_);
  const auto it = listeners_.find(job_uid);
  if (it == listeners_.end()) return;
  it->second.erase(id);
  if (it->second.empty()) listeners_.erase(it);
}

void LogStore::Notify(const std::string& job_uid) {
  absl::MutexLock lock(&listeners_mutex_);
  const auto it = listeners_.find(job_uid);
  if (it == listeners_.end()) return;
  for (const auto& [id, listener] : it->second) listener();
}

}  // namespace liger::server
