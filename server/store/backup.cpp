#include "server/store/backup.h"

#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "server/store/sqlite_db.h"

namespace liger::server {
namespace {

absl::Status MustExist(const std::string& path) {
  if (access(path.c_str(), F_OK) == 0) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("no database at ", path, ": is that a coordinator's data folder?"));
}

// A backup is one file: no log beside it that could be forgotten.
absl::Status Mark(const std::string& path) {
  absl::StatusOr<std::unique_ptr<SqliteDb>> db = SqliteDb::Open(path, /*read_only=*/false);
  if (!db.ok()) return db.status();
  absl::Status status = (*db)->Execute("PRAGMA journal_mode=DELETE");
  if (!status.ok()) return status;
  (*db)->Run("INSERT OR REPLACE INTO meta(key, value) VALUES(?1, '1')", kBackupMark);
  return (*db)->status();
}

}  // namespace

absl::Status CheckDatabase(const std::string& path) {
  if (absl::Status s = MustExist(path); !s.ok()) return s;
  absl::StatusOr<std::unique_ptr<SqliteDb>> db = SqliteDb::Open(path, /*read_only=*/true);
  if (!db.ok()) return db.status();
  std::string verdict;
  {
    SqliteQuery check = (*db)->Query("PRAGMA integrity_check(1)");
    if (check.Next()) verdict = check.Text();
  }
  int64_t known = 0;
  {
    SqliteQuery meta = (*db)->Query("SELECT COUNT(*) FROM meta WHERE key = 'cluster_id'");
    if (meta.Next()) known = meta.Int();
  }
  if ((*db)->status().ok() && verdict == "ok" && known == 1) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(path, " is not a coordinator's database or is damaged: ",
                   (*db)->status().ok() ? absl::string_view(verdict) : (*db)->status().message()));
}

absl::Status BackUpDatabase(const std::string& folder, const std::string& to) {
  const std::string from = absl::StrCat(folder, "/liger.db");
  if (absl::Status s = MustExist(from); !s.ok()) return s;
  absl::Status status;
  {
    absl::StatusOr<std::unique_ptr<SqliteDb>> db = SqliteDb::Open(from, /*read_only=*/true);
    if (!db.ok()) return db.status();
    status = (*db)->CopyTo(to);
  }
  if (status.ok()) status = Mark(to);
  return status.ok() ? CheckDatabase(to) : status;
}

}  // namespace liger::server
