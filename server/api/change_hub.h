#ifndef LIGER_SERVER_API_CHANGE_HUB_H_
#define LIGER_SERVER_API_CHANGE_HUB_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/executor.h"
#include "server/store/store.h"

namespace liger::server {

// Spreads the store's commits to whoever watches jobs, on a thread of its own,
// so that a hundred watchers cost the writer nothing.
class ChangeHub {
 public:
  // In order of the revisions; must not block.
  using Listener = std::function<void(const std::vector<JobChange>&)>;

  ChangeHub() : thread_(1) {}

  // The store's commit listener.
  void Publish(const std::vector<JobChange>& changes);

  // `listener` hears every commit that Publish is called for after Add returns.
  int64_t Add(Listener listener) ABSL_LOCKS_EXCLUDED(mutex_);
  // A call in progress may still end after this returns.
  void Remove(int64_t id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Delivers what was published, then nothing more.
  void Stop() { thread_.Shutdown(); }

 private:
  absl::Mutex mutex_;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<int64_t, std::shared_ptr<const Listener>> listeners_ ABSL_GUARDED_BY(mutex_);
  Executor thread_;  // last: joined before the rest goes
};

}  // namespace liger::server

#endif  // LIGER_SERVER_API_CHANGE_HUB_H_
