#ifndef LIGER_SERVER_STORE_SQLITE_DB_H_
#define LIGER_SERVER_STORE_SQLITE_DB_H_

#include <sqlite3.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message_lite.h"

namespace liger::server {

class SqliteDb;

// A prepared statement while it runs. Columns are read in order, as
//   while (query.Next()) { row.uid = query.Text(); row.epoch = query.Int(); }
// An error ends the rows and is kept in the database's status.
class SqliteQuery {
 public:
  SqliteQuery(SqliteDb* db, sqlite3_stmt* statement) : db_(db), statement_(statement) {}
  ~SqliteQuery();
  SqliteQuery(SqliteQuery&& other)
      : db_(other.db_), statement_(std::exchange(other.statement_, nullptr)) {}
  SqliteQuery& operator=(SqliteQuery&&) = delete;

  void Bind(int64_t value);
  void Bind(absl::string_view text);
  // As a blob; deterministic, so that equal rows are equal bytes.
  void Bind(const google::protobuf::MessageLite& message);
  struct Blob {
    absl::string_view bytes;
  };
  void Bind(Blob blob);

  bool Next();
  int64_t Int();
  std::string Text();
  std::string Bytes() { return Text(); }
  // A blob that does not parse is an error of the storage.
  void Message(google::protobuf::MessageLite* message);

 private:
  SqliteDb* const db_;
  sqlite3_stmt* statement_;  // owned by db_; nullptr after an error
  int bound_ = 0;
  int column_ = 0;
};

// One connection, for one thread at a time. The first error is kept, and
// everything after it does nothing, until ClearStatus.
class SqliteDb {
 public:
  static absl::StatusOr<std::unique_ptr<SqliteDb>> Open(const std::string& path, bool read_only);
  ~SqliteDb();

  const absl::Status& status() const { return status_; }
  void ClearStatus() { status_ = absl::OkStatus(); }
  void Fail(int code, absl::string_view what);

  // All of it, as one snapshot, into a new file; others may write meanwhile
  // (SQLite's backup API).
  absl::Status CopyTo(const std::string& path);

  // Any number of statements without parameters. Runs after an error too, so
  // that a transaction can be rolled back.
  absl::Status Execute(const char* sql);

  // Binds `values` to ?1, ?2, ... of a statement that is prepared once.
  template <typename... Values>
  SqliteQuery Query(const char* sql, const Values&... values) {
    SqliteQuery query(this, Prepare(sql));
    (query.Bind(values), ...);
    return query;
  }
  // Query, to its end.
  template <typename... Values>
  void Run(const char* sql, const Values&... values) {
    SqliteQuery query(this, Prepare(sql));
    (query.Bind(values), ...);
    while (query.Next()) {
    }
  }
  sqlite3_stmt* Prepare(const std::string& sql);

 private:
  explicit SqliteDb(sqlite3* db) : db_(db) {}

  sqlite3* const db_;
  absl::Status status_;
  std::map<std::string, sqlite3_stmt*> statements_;
};

// RESOURCE_EXHAUSTED for a full disk, DATA_LOSS for a damaged file, else
// UNAVAILABLE.
absl::Status SqliteError(int code, absl::string_view what);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_SQLITE_DB_H_
