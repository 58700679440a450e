#include "worker/agent/event_loop.h"

#include <algorithm>
#include <utility>

#include "worker/agent/steady_time.h"

namespace liger::agent {

void EventLoop::Post(absl::AnyInvocable<void()> task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
}

void EventLoop::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

void EventLoop::Run(absl::Duration interval, absl::AnyInvocable<void()> tick) {
  absl::Time next_tick = SteadyNow();
  while (RunPosted(std::max(absl::ZeroDuration(), next_tick - SteadyNow()))) {
    if (SteadyNow() < next_tick) continue;
    tick();
    next_tick = SteadyNow() + interval;
  }
}

bool EventLoop::RunPosted(absl::Duration wait) {
  std::deque<absl::AnyInvocable<void()>> batch;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &EventLoop::Ready), wait);
    if (stopped_) return false;
    batch.swap(tasks_);
  }
  for (auto& task : batch) task();
  return true;
}

}  // namespace liger::agent
