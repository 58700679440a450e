#include "worker/trainer/data/parallel_rows.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

// Rows a thread takes at a time: enough that the counter is not contended, few
// enough that long rows at the end do not leave one thread alone.
constexpr int64_t kBlock = 16;

class RowLoop {
 public:
  RowLoop(int64_t n, const std::function<void(int64_t)>& work)
      : n_(n), work_(work), first_failed_(n) {}

  // One thread's share. Blocks are handed out in order, so every row before a
  // failed one has been started, and is finished by its own thread.
  void Run() {
    for (int64_t begin = next_.fetch_add(kBlock); begin < n_; begin = next_.fetch_add(kBlock)) {
      Tick();
      for (int64_t i = begin; i < std::min(n_, begin + kBlock); ++i) {
        if (i > first_failed_.load(std::memory_order_relaxed)) return;
        try {
          work_(i);
        } catch (...) {
          Fail(i, std::current_exception());
          return;
        }
      }
    }
  }

  void Rethrow() {
    absl::MutexLock lock(&mutex_);
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

 private:
  void Fail(int64_t i, std::exception_ptr error) {
    absl::MutexLock lock(&mutex_);
    if (i >= first_failed_) return;
    first_failed_ = i;
    error_ = std::move(error);
  }

  const int64_t n_;
  const std::function<void(int64_t)>& work_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> first_failed_;
  absl::Mutex mutex_;
  std::exception_ptr error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

void ForEachRow(int64_t n, int num_threads, const std::function<void(int64_t)>& work) {
  if (num_threads <= 0) num_threads = static_cast<int>(std::thread::hardware_concurrency());
  const int64_t useful =
      std::clamp<int64_t>((n + kBlock - 1) / kBlock, 1, std::max(1, num_threads));
  RowLoop loop(n, work);
  std::vector<std::thread> helpers;
  for (int64_t t = 1; t < useful; ++t) helpers.emplace_back([&loop] { loop.Run(); });
  loop.Run();
  for (std::thread& helper : helpers) helper.join();
  loop.Rethrow();
}

}  // namespace liger::trainer
