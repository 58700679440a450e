#ifndef LIGER_WORKER_TRAINER_TICKS_H_
#define LIGER_WORKER_TRAINER_TICKS_H_

#include <atomic>
#include <cstdint>

namespace liger::trainer {

inline std::atomic<int64_t> g_ticks{0};
inline std::atomic<int> g_slow_calls{0};

// A piece of work is done (a micro-batch, some rows, a tensor, a token), in
// whichever thread. Alive tells the count: a long operation ticks on, a
// deadlock does not, although the thread that sends Alive lives.
inline void Tick() { g_ticks.fetch_add(1, std::memory_order_relaxed); }
inline int64_t Ticks() { return g_ticks.load(std::memory_order_relaxed); }

// Around one system call that may take long and cannot tick meanwhile: syncing a
// model to a slow disk. Alive tells, so that the agent waits longer for its end.
class SlowCall {
 public:
  SlowCall() {
    Tick();
    g_slow_calls.fetch_add(1, std::memory_order_relaxed);
  }
  ~SlowCall() {
    g_slow_calls.fetch_sub(1, std::memory_order_relaxed);
    Tick();
  }
  SlowCall(const SlowCall&) = delete;
  SlowCall& operator=(const SlowCall&) = delete;
};
inline bool InSlowCall() { return g_slow_calls.load(std::memory_order_relaxed) > 0; }

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TICKS_H_
