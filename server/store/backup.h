#ifndef LIGER_SERVER_STORE_BACKUP_H_
#define LIGER_SERVER_STORE_BACKUP_H_

#include <string>

#include "absl/status/status.h"

namespace liger::server {

// The key of meta (ReadView::Meta) that says that a database is a backup. The store that opens
// one raises its generation, whether or not anybody thought of it, and removes
// the mark.
inline constexpr char kBackupMark[] = "backup";

// Copies `folder`/liger.db to `to`, a file that does not exist, as one snapshot,
// marks it, and checks it. A coordinator may use the folder meanwhile.
// NOT_FOUND: no database there. DATA_LOSS: it is damaged.
absl::Status BackUpDatabase(const std::string& folder, const std::string& to);

// Whether `path` is a whole database of a coordinator, by SQLite's own check.
// NOT_FOUND, DATA_LOSS.
absl::Status CheckDatabase(const std::string& path);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_BACKUP_H_
