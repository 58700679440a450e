#ifndef LIGER_WORKER_TRAINER_PARALLEL_WATCH_H_
#define LIGER_WORKER_TRAINER_PARALLEL_WATCH_H_

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/trainer/parallel/rank.h"
#include "worker/trainer/parallel/rank_status.h"

namespace liger::trainer {

// Sees to it that no rank waits for ever for another one. c10d's own timeouts end an operation
// after a fixed time and name an address; here a wait is fine for as long as those that are waited
// for make progress (rank 0 saves, another one has the longer rows), and the message names ranks.
//
// Each rank tells the gang's store how it is once a second. Rank 0 reads all of that and writes
// the verdict (Judge) there, once; the others read the verdict, and judge rank 0 themselves. Two
// threads: one talks to the store and may hang with it; the other one notices that.
class Watch {
 public:
  struct Options {
    WatchLimits limits;
    absl::Duration interval = absl::Seconds(1);
    // From a verdict on, what the training thread has to end by itself before on_verdict.
    absl::Duration grace = absl::Seconds(5);
    // Called at most once, from a thread of the watch, where the training thread does not end by
    // itself: it is to end the process.
    std::function<void(const Farewell&)> on_verdict;
  };

  // `store`: for this alone, since an operation on it may block.
  Watch(c10::intrusive_ptr<c10d::Store> store, const RankInfo& rank, Options options);
  ~Watch();
  Watch(const Watch&) = delete;

  // A collective begins here; its number, from 1.
  int64_t Issue() ABSL_LOCKS_EXCLUDED(mutex_);
  // The training thread waits for collective `number` from now on; 0: no more.
  void Waits(int64_t number, const std::string& what) ABSL_LOCKS_EXCLUDED(mutex_);
  // One failed here, with this message: what the gang comes to. Returns within
  // error_s and a few seconds.
  Farewell Explain(const std::string& error) ABSL_LOCKS_EXCLUDED(mutex_);
  // Tells the others why this rank leaves, and ends the watch. Rank 0 waits for a moment
  // until the others know.
  void Leave(const Farewell& farewell) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Clock = std::chrono::steady_clock;
  // When something that a rank tells last changed.
  struct Change {
    RankStatus status;
    Clock::time_point beat, progress, error;
  };

  void Talk();
  // One round with the store; throws what it throws.
  void Round();
  void Publish();
  std::optional<Farewell> ReadVerdict();
  // At ranks [0, ranks).
  std::vector<SeenRank> Look(int ranks);
  void Guard();
  void Decide(const Farewell& verdict) ABSL_LOCKS_EXCLUDED(mutex_);
  void AwaitTheOthers();
  std::string Key(const char* kind, int rank) const;

  const c10::intrusive_ptr<c10d::Store> store_;
  const RankInfo rank_;
  const Options options_;

  absl::Mutex mutex_;
  RankStatus own_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point wait_began_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point last_round_ ABSL_GUARDED_BY(mutex_);
  std::optional<Farewell> verdict_ ABSL_GUARDED_BY(mutex_);
  bool left_ ABSL_GUARDED_BY(mutex_) = false;    // Leave was called
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // Talk has told it, or cannot
  std::vector<Change> seen_;  // Talk's thread only
  std::thread talk_, guard_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_WATCH_H_
