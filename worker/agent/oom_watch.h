#ifndef LIGER_WORKER_AGENT_OOM_WATCH_H_
#define LIGER_WORKER_AGENT_OOM_WATCH_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "absl/time/time.h"

namespace liger::agent {

// OOM kills in this process's cgroup (v2 or v1), or on the host where the
// cgroup does not count them. Only differences mean something.
int64_t OomKillCount();

// Tells whether the kernel has killed something for memory just now. It does
// not say what: a trainer is blamed on it only when its SIGKILL falls together
// with one.
class OomWatch {
 public:
  explicit OomWatch(std::function<int64_t()> count = OomKillCount) : count_(std::move(count)) {}

  // To be called often.
  void Look(absl::Time now);
  // The count rose between two looks at most a few seconds ago: a process with
  // much memory takes a while to end.
  bool Recent(absl::Time now) const;

 private:
  std::function<int64_t()> count_;
  std::optional<int64_t> last_;
  absl::Time rose_ = absl::InfinitePast();
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_OOM_WATCH_H_
