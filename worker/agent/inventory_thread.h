#ifndef LIGER_WORKER_AGENT_INVENTORY_THREAD_H_
#define LIGER_WORKER_AGENT_INVENTORY_THREAD_H_

#include <cstdint>
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

  // All are called from the thread: `code` for the digest of what trains ("code" in the
  // list; empty: not known, and not listed), `changed` with the first result and with every
  // one that differs from the one before, `looked` with the id of a Look, after what
  // it found was told.
  InventoryThread(Inventory inventory, absl::Duration interval, std::function<std::string()> code,
                  std::function<void(Items)> changed, std::function<void(int64_t)> looked);
  ~InventoryThread();

  // Scans at once when the list differs from the last one. Thread-safe.
  void SetCatalogUris(std::vector<std::string> uris);
  // Scans at once, once more if a scan is under way. Of several that wait, the last is
  // answered. Thread-safe.
  void Look(int64_t id);

 private:
  bool Due() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || catalog_changed_ || look_ > 0;
  }
  void Run();
  // Tells a list that differs from the last one told.
  void Tell(const Items& items);
  // Until the next scan is due.
  void AwaitChange();

  Inventory inventory_;  // the thread's own
  const absl::Duration interval_;
  const std::function<std::string()> code_;
  const std::function<void(Items)> changed_;
  const std::function<void(int64_t)> answer_;
  std::string told_ = "nothing yet";  // the thread's own
  absl::Mutex mutex_;
  std::vector<std::string> catalog_uris_ ABSL_GUARDED_BY(mutex_);
  bool catalog_changed_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t look_ ABSL_GUARDED_BY(mutex_) = 0;  // asked for; 0: none that waits
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_INVENTORY_THREAD_H_
