#ifndef LIGER_SERVER_STORE_SCHEMA_H_
#define LIGER_SERVER_STORE_SCHEMA_H_

#include "absl/status/status.h"
#include "server/store/sqlite_db.h"

namespace liger::server {

// Brings a database to this program's schema, one migration a version, all in
// one transaction. FAILED_PRECONDITION when a newer version wrote it.
absl::Status MigrateSchema(SqliteDb* db);

// The version MigrateSchema leads to.
int SchemaVersion();

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_SCHEMA_H_
