#ifndef LIGER_SERVER_COORDINATOR_BACKUP_H_
#define LIGER_SERVER_COORDINATOR_BACKUP_H_

#include <string>

#include "absl/status/status.h"

namespace liger::server {

// Copies a coordinator's data folder, database and logs, to the new folder
// `out`, while a coordinator may use it. `out` appears when it is whole and on
// disk; until then there is `out`.part. The logs are copied after the database,
// so that none which it knows is missing. ALREADY_EXISTS, NOT_FOUND, DATA_LOSS
// or UNAVAILABLE name the folder or file.
absl::Status BackUpDataFolder(const std::string& data_dir, const std::string& out);

// The way back, into a `data_dir` that does not exist or is empty. The
// coordinator that opens it raises the generation. `from` is not changed. With
// `set_aside` a `data_dir` that has something is first renamed to <data_dir>.<Unix time
// in ms>, once `from` is seen to be a backup; FAILED_PRECONDITION while a coordinator
// uses it.
absl::Status RestoreDataFolder(const std::string& from, const std::string& data_dir,
                               bool set_aside);

}  // namespace liger::server

#endif  // LIGER_SERVER_COORDINATOR_BACKUP_H_
