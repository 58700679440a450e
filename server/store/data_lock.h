#ifndef LIGER_SERVER_STORE_DATA_LOCK_H_
#define LIGER_SERVER_STORE_DATA_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace liger::server {

// Keeps a second coordinator out of a data folder. The kernel drops the lock
// with the process, however it ends.
class DataLock {
 public:
  // Makes the folder if need be. FAILED_PRECONDITION names the holder's pid.
  static absl::StatusOr<std::unique_ptr<DataLock>> Acquire(const std::string& folder);
  ~DataLock();

 private:
  explicit DataLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_DATA_LOCK_H_
