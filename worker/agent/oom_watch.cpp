#include "worker/agent/oom_watch.h"

namespace liger::agent {
namespace {

constexpr absl::Duration kRecent = absl::Seconds(5);

}  // namespace

void OomWatch::Look(absl::Time now) {
  const int64_t count = count_();
  if (last_ && count > *last_) rose_ = now;
  last_ = count;
}

bool OomWatch::Recent(absl::Time now) const { return now - rose_ <= kRecent; }

}  // namespace liger::agent
