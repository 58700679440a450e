#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/file.h"
#include "server/store/data_lock.h"
#include "server/store/engine.h"
#include "server/store/schema.h"
#include "server/store/sqlite_db.h"
#include "server/store/sqlite_tables.h"

namespace liger::server {
namespace {

// One connection writes; each reader borrows one of its own.
class SqliteBackend : public Backend {
 public:
  static absl::StatusOr<std::unique_ptr<Backend>> Open(const std::string& folder) {
    absl::StatusOr<std::unique_ptr<DataLock>> lock = DataLock::Acquire(folder);
    if (!lock.ok()) return lock.status();
    const std::string path = absl::StrCat(folder, "/liger.db");
    absl::StatusOr<std::unique_ptr<SqliteDb>> db = SqliteDb::Open(path, /*read_only=*/false);
    if (!db.ok()) return db.status();
    // FULL: a commit survives a power loss. The folder's entry for a new file
    // has to, as well.
    absl::Status status = (*db)->Execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
    if (status.ok()) status = MigrateSchema(db->get());
    if (status.ok()) status = SyncFolder(folder);
    if (!status.ok()) return status;
    return std::unique_ptr<Backend>(new SqliteBackend(path, *std::move(lock), *std::move(db)));
  }

  absl::Status Begin() override { return db_->Execute("BEGIN IMMEDIATE"); }
  void BeginCommand() override { db_->Run("SAVEPOINT command"); }
  void KeepCommand() override { db_->Run("RELEASE command"); }
  void UndoCommand() override {
    db_->Run("ROLLBACK TO command");
    db_->Run("RELEASE command");
  }
  absl::Status Commit() override {
    absl::Status status = db_->status();
    if (status.ok()) status = db_->Execute("COMMIT");
    if (!status.ok()) Rollback();
    return status;
  }
  void Rollback() override {
    // Fails when SQLite rolled back by itself (disk full): the same end.
    db_->Execute("ROLLBACK").IgnoreError();
    db_->ClearStatus();
  }
  Tables& tables() override { return tables_; }

  void Read(const std::function<void(absl::StatusOr<const ReadView*>)>& reader) override {
    absl::StatusOr<std::unique_ptr<SqliteDb>> db = BorrowReader();
    if (!db.ok()) return reader(db.status());
    const absl::Status begun = (*db)->Execute("BEGIN");
    if (!begun.ok()) return reader(begun);
    const SqliteTables view(db->get());
    reader(&view);
    (*db)->Execute("ROLLBACK").IgnoreError();
    if (!(*db)->status().ok()) return;  // a connection with an error is not used again
    absl::MutexLock lock(&mutex_);
    readers_.push_back(*std::move(db));
  }

 private:
  SqliteBackend(std::string path, std::unique_ptr<DataLock> lock, std::unique_ptr<SqliteDb> db)
      : path_(std::move(path)), lock_(std::move(lock)), db_(std::move(db)), tables_(db_.get()) {}

  absl::StatusOr<std::unique_ptr<SqliteDb>> BorrowReader() {
    {
      absl::MutexLock lock(&mutex_);
      if (!readers_.empty()) {
        std::unique_ptr<SqliteDb> db = std::move(readers_.back());
        readers_.pop_back();
        return db;
      }
    }
    return SqliteDb::Open(path_, /*read_only=*/true);
  }

  const std::string path_;
  const std::unique_ptr<DataLock> lock_;
  const std::unique_ptr<SqliteDb> db_;  // the writer's
  SqliteTables tables_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<SqliteDb>> readers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const std::string& folder,
                                                       const StoreOptions& options) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = SqliteBackend::Open(folder);
  if (!backend.ok()) return backend.status();
  return Engine::Open(*std::move(backend), options);
}

}  // namespace liger::server
