#include "worker/trainer/parallel/exit_deadline.h"

#include <utility>

namespace liger::trainer {

ExitDeadline::ExitDeadline(absl::Duration limit, std::function<void()> end) {
  thread_ = std::thread([this, limit, end = std::move(end)] {
    {
      const absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&met_), limit)) return;
    }
    end();
  });
}

ExitDeadline::~ExitDeadline() {
  {
    const absl::MutexLock lock(&mutex_);
    met_ = true;
  }
  thread_.join();
}

}  // namespace liger::trainer
