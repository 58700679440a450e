#ifndef LIGER_WORKER_AGENT_INVENTORY_THREAD_H_
#define LIGER_WORKER_AGENT_INVENTORY_THREAD_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/agent/inventory.h"

namespace liger::agent {

// Scans again and again, at once when a folder has changed, away from the agent's
// thread: a model root on a slow network file system must not delay a heartbeat.
class InventoryThread {
 public:
  using Items = std::vector<worker::v1::InventoryItem>;

  // `changed` is called from the thread with the first result and with every
  // one that differs from the one before.
  InventoryThread(Inventory inventory, absl::Duration interval, std::function<void(Items)> changed);
  ~InventoryThread();

  // Scans at once when the list differs from the last one. Thread-safe.
  void SetCatalogUris(std::vector<std::string> uris);

 private:
  bool Due() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || catalog_changed_; }
  void Run();
  // Until the next scan is due.
  void AwaitChange();

  Inventory inventory_;  // the thread's own
  const absl::Duration interval_;
  const std::function<void(Items)> changed_;
  absl::Mutex mutex_;
  std::vector<std::string> catalog_uris_ ABSL_GUARDED_BY(mutex_);
  bool catalog_changed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_INVENTORY_THREAD_H_
