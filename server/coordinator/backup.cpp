#include "server/coordinator/backup.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "common/unique_fd.h"
#include "server/store/backup.h"
#include "server/store/data_lock.h"

namespace liger::server {
namespace {

namespace fs = std::filesystem;

absl::Status FileError(const std::string& what, const std::error_code& error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", error.message()));
}

// Of a job that is deleted meanwhile, files and folders vanish: that is no error.
bool IsGone(const std::error_code& error) { return error == std::errc::no_such_file_or_directory; }

// Regular files of a tree, into `to`. Logs only grow, and a log's size is the
// offset that its worker goes on from, so a copy that ends early is a good one.
absl::Status CopyLogs(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::recursive_directory_iterator it(from, error), end;
  if (IsGone(error)) return absl::OkStatus();
  for (; !error && it != end; it.increment(error)) {
    const fs::path target = to / it->path().lexically_relative(from);
    std::error_code failed;
    if (it->is_symlink(failed)) continue;
    if (it->is_directory(failed)) {
      fs::create_directories(target, failed);
    } else if (it->is_regular_file(failed)) {
      fs::copy_file(it->path(), target, failed);
    }
    if (failed && !IsGone(failed)) return FileError(it->path().string(), failed);
  }
  return error && !IsGone(error) ? FileError(from, error) : absl::OkStatus();
}

// Everything below `path` is on its disk.
absl::Status Sync(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || syncfs(fd.get()) != 0) return absl::ErrnoToStatus(errno, path);
  return absl::OkStatus();
}

// A backup goes where the loss of the data folder does not take it along.
absl::Status MustBeOutside(const char* flag, const std::string& path,
                           const std::string& data_dir) {
  std::error_code error;
  const fs::path data = fs::weakly_canonical(data_dir, error);
  const fs::path target = fs::weakly_canonical(path, error);
  const fs::path from_data = target.lexically_relative(data);
  if (from_data.empty() || *from_data.begin() == "..") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      flag, ": ", path, " lies in the data folder ", data_dir, ": name a folder elsewhere"));
}

// A data folder that no coordinator uses, under another name beside it.
absl::Status SetAside(const std::string& data_dir) {
  std::error_code error;
  if (!fs::exists(data_dir, error) || fs::is_empty(data_dir, error)) return absl::OkStatus();
  const absl::StatusOr<std::unique_ptr<DataLock>> lock = DataLock::Acquire(data_dir);
  if (!lock.ok()) return lock.status();
  const std::string aside = absl::StrCat(fs::path(data_dir + "/").parent_path().string(), ".",
                                         absl::ToUnixMillis(absl::Now()));
  fs::rename(data_dir, aside, error);
  if (error) return FileError(absl::StrCat("cannot rename ", data_dir, " to ", aside), error);
  return absl::OkStatus();
}

absl::Status MustBeNew(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(path, " exists: name a folder that does not"));
}

}  // namespace

absl::Status BackUpDataFolder(const std::string& data_dir, const std::string& out) {
  const std::string target = fs::absolute(out).lexically_normal().string();
  const std::string part = target + ".part";
  if (absl::Status s = MustBeNew(target); !s.ok()) return s;
  if (absl::Status s = MustBeOutside("--out", target, data_dir); !s.ok()) return s;
  std::error_code error;
  if (fs::exists(part, error)) {
    return absl::AlreadyExistsError(
        absl::StrCat(part, " is left by a backup that did not end: remove it"));
  }
  if (absl::Status s = MakeFolders(part + "/logs"); !s.ok()) return s;
  absl::Cleanup remove_part = [&part] {
    std::error_code ignored;
    fs::remove_all(part, ignored);
  };
  if (absl::Status s = BackUpDatabase(data_dir, part + "/liger.db"); !s.ok()) return s;
  if (absl::Status s = CopyLogs(data_dir + "/logs", part + "/logs"); !s.ok()) return s;
  if (absl::Status s = Sync(part); !s.ok()) return s;
  fs::rename(part, target, error);
  if (error) return FileError(absl::StrCat("cannot rename ", part, " to ", target), error);
  std::move(remove_part).Cancel();
  return SyncFolder(fs::path(target).parent_path().string());
}

absl::Status RestoreDataFolder(const std::string& from, const std::string& data_dir,
                               bool set_aside) {
  if (absl::Status s = CheckDatabase(from + "/liger.db"); !s.ok()) return s;
  if (absl::Status s = MustBeOutside("--from", from, data_dir); !s.ok()) return s;
  if (absl::Status s = set_aside ? SetAside(data_dir) : absl::OkStatus(); !s.ok()) return s;
  std::error_code error;
  if (fs::exists(data_dir, error) && !fs::is_empty(data_dir, error)) {
    return absl::AlreadyExistsError(absl::StrCat(
        data_dir, " is not empty: move it away, a restore never overwrites (--set-aside does it)"));
  }
  const absl::StatusOr<std::unique_ptr<DataLock>> lock = DataLock::Acquire(data_dir);
  if (!lock.ok()) return lock.status();
  if (absl::Status s = CopyLogs(from + "/logs", data_dir + "/logs"); !s.ok()) return s;
  // The database last, under another name first: half a restore has none.
  const std::string part = data_dir + "/liger.db.part";
  fs::copy_file(from + "/liger.db", part, error);
  if (error) return FileError(part, error);
  fs::rename(part, data_dir + "/liger.db", error);
  if (error) return FileError(part, error);
  return Sync(data_dir);
}

}  // namespace liger::server
