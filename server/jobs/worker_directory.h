#ifndef LIGER_SERVER_JOBS_WORKER_DIRECTORY_H_
#define LIGER_SERVER_JOBS_WORKER_DIRECTORY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/store/records.h"

namespace liger::server {

// The workers in memory, for decisions that must not wait for a read: which
// devices there are, and who has said Hello since this coordinator started.
// Follows the store. Thread-safe.
class WorkerDirectory {
 public:
  // A worker of an earlier term: known, and READY while its lease runs, but not
  // here until its Hello.
  void Load(WorkerRow worker);
  void OnHello(const liger::worker::v1::Hello& hello, int64_t now_us);
  void OnInventory(const std::string& worker_id, int64_t incarnation,
                   const std::vector<liger::worker::v1::InventoryItem>& inventory);
  // False when this incarnation is not the one here.
  bool OnLost(const std::string& worker_id, int64_t incarnation);

  std::optional<WorkerRow> Find(const std::string& worker_id) const;
  // Every worker.
  std::vector<WorkerRow> Workers() const;
  // Every worker here has looked at its disks: it lists something, or had
  // `settle_us` to do so. False when none is here.
  bool InventoryIsKnown(int64_t now_us, int64_t settle_us) const;

 private:
  struct Entry {
    WorkerRow row;
    bool here = false;
    int64_t hello_us = 0;
  };
  mutable absl::Mutex mutex_;
  std::map<std::string, Entry> workers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_WORKER_DIRECTORY_H_
