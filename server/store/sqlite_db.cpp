#include "server/store/sqlite_db.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace liger::server {
namespace {

std::string SerializeDeterministically(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

absl::Status SqliteError(int code, absl::string_view what) {
  const std::string message = absl::StrCat("the coordinator's store: ", what);
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(
          absl::StrCat(message, "; its disk is full, free some space"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(absl::StrCat(message, "; restore the folder from a backup"));
    default:
      return absl::UnavailableError(message);
  }
}

SqliteQuery::~SqliteQuery() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void SqliteQuery::Bind(int64_t value) {
  if (statement_ != nullptr) sqlite3_bind_int64(statement_, ++bound_, value);
}

void SqliteQuery::Bind(absl::string_view text) {
  if (statement_ == nullptr) return;
  sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_TRANSIENT,
                      SQLITE_UTF8);
}

void SqliteQuery::Bind(Blob blob) {
  if (statement_ == nullptr) return;
  // A null pointer would bind NULL, which STRICT columns refuse.
  const char* data = blob.bytes.empty() ? "" : blob.bytes.data();
  sqlite3_bind_blob64(statement_, ++bound_, data, blob.bytes.size(), SQLITE_TRANSIENT);
}

void SqliteQuery::Bind(const google::protobuf::MessageLite& message) {
  Bind(Blob{SerializeDeterministically(message)});
}

bool SqliteQuery::Next() {
  column_ = 0;
  if (statement_ == nullptr || !db_->status().ok()) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) db_->Fail(code, sqlite3_errmsg(sqlite3_db_handle(statement_)));
  return false;
}

int64_t SqliteQuery::Int() { return sqlite3_column_int64(statement_, column_++); }

std::string SqliteQuery::Text() {
  const void* data = sqlite3_column_blob(statement_, column_);
  const int size = sqlite3_column_bytes(statement_, column_++);
  return size == 0 ? std::string() : std::string(static_cast<const char*>(data), size);
}

void SqliteQuery::Message(google::protobuf::MessageLite* message) {
  if (!message->ParseFromString(Bytes())) {
    db_->Fail(SQLITE_CORRUPT, absl::StrCat("a stored ", message->GetTypeName(), " is damaged"));
  }
}

absl::StatusOr<std::unique_ptr<SqliteDb>> SqliteDb::Open(const std::string& path, bool read_only) {
  sqlite3* raw = nullptr;
  const int flags =
      (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
      SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  std::unique_ptr<SqliteDb> db(new SqliteDb(raw));
  if (code != SQLITE_OK) return SqliteError(code, absl::StrCat(path, ": ", sqlite3_errstr(code)));
  sqlite3_extended_result_codes(raw, 1);
  // Readers never wait for the writer in WAL mode; a checkpoint may, briefly.
  sqlite3_busy_timeout(raw, 10000);
  return db;
}

SqliteDb::~SqliteDb() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

void SqliteDb::Fail(int code, absl::string_view what) {
  if (status_.ok()) status_ = SqliteError(code, what);
}

absl::Status SqliteDb::CopyTo(const std::string& path) {
  absl::StatusOr<std::unique_ptr<SqliteDb>> copy = Open(path, /*read_only=*/false);
  if (!copy.ok()) return copy.status();
  sqlite3* to = (*copy)->db_;
  sqlite3_backup* backup = sqlite3_backup_init(to, "main", db_, "main");
  // In one step, so that a writer cannot make it start again.
  if (backup != nullptr) sqlite3_backup_step(backup, -1);
  const int code = backup == nullptr ? sqlite3_errcode(to) : sqlite3_backup_finish(backup);
  return code == SQLITE_OK ? absl::OkStatus()
                           : SqliteError(code, absl::StrCat(path, ": ", sqlite3_errstr(code)));
}

absl::Status SqliteDb::Execute(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : SqliteError(code, sqlite3_errmsg(db_));
}

sqlite3_stmt* SqliteDb::Prepare(const std::string& sql) {
  if (!status_.ok()) return nullptr;
  sqlite3_stmt*& statement = statements_[sql];
  if (statement == nullptr) {
    const int code = sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) Fail(code, absl::StrCat(sqlite3_errmsg(db_), " in: ", sql));
  }
  return statement;
}

}  // namespace liger::server
