#ifndef LIGER_WORKER_TRAINER_PARALLEL_GANG_H_
#define LIGER_WORKER_TRAINER_PARALLEL_GANG_H_

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "worker/trainer/parallel/rank.h"
#include "worker/trainer/parallel/watch.h"

namespace liger::trainer {

// The ranks of a job, joined: c10d's process group, Gloo for tensors in host memory and NCCL for
// those on GPUs, with a Watch over all of it. Every rank calls the same collectives in the same
// order, from one thread at a time.
//
// A collective that cannot end, since a rank is lost, has failed or hangs, throws TrainerError
// naming that rank (INFRA and HANG are worth another attempt; a rank that failed by itself gives
// its own class), or StopRequested where a rank was stopped.
class Gang {
 public:
  struct Options {
    // Watch::Options::on_verdict.
    std::function<void(const Farewell&)> on_verdict;
    WatchLimits limits;
  };
  // What a collective needs until it is waited for.
  struct Pending {
    c10::intrusive_ptr<c10d::Work> work;
    int64_t number = 0;
  };

  // Meets the others at MASTER_ADDR, within limits.join_s and a few seconds. Throws TrainerError:
  // INFRA naming the ranks that have not come in time, or a rank 0 that cannot be reached, or a
  // port that is in use; CONFIG for an address that cannot be.
  static std::unique_ptr<Gang> Join(const RankInfo& rank, const Options& options);
  // For tests: ranks that are threads, over a store that they share. Unwatched.
  static std::unique_ptr<Gang> OfThreads(const RankInfo& rank,
                                         c10::intrusive_ptr<c10d::Store> store);
  // After a failure NCCL's communicators stay, to the end of the process.
  ~Gang();
  // Whether some did: the process is to end without the destructors of static objects, which take
  // the driver from under the communicators' threads.
  static bool LeftCommunicators();

  const RankInfo& rank() const { return rank_; }
  // Before the first collective of tensors on it; a CPU needs nothing. Throws TrainerError
  // (CONFIG) where NCCL cannot be loaded.
  void OpenDevice(at::Device device);

  // Element-wise over ranks, in place; `what` for messages ("the loss").
  void Sum(at::Tensor values, const char* what);
  void Max(at::Tensor values, const char* what);
  Pending SumLater(at::Tensor values);
  void Wait(const Pending& pending, const char* what);
  // Every rank's text, by rank.
  std::vector<std::string> Gather(const std::string& own, const char* what);
  void Barrier(const char* what);

  // For the collectives of others (FSDP), which number themselves by NoteIssued, so that a hang
  // of theirs is named too.
  const c10::intrusive_ptr<c10d::ProcessGroup>& process_group() const { return group_; }
  // Of `size` ranks of the job, of which this is number `rank`, for tensors on the device that was
  // opened. Collective among them; `name` is the group's own.
  c10::intrusive_ptr<c10d::Backend> MakeGroup(const std::string& name, int rank, int size);
  // Throws what an error of those collectives means, if it is one: else the error itself.
  [[noreturn]] void Explain(const std::exception_ptr& error);
  int64_t NoteIssued();
  // While it lives, the training thread waits for something that hangs on the collectives begun so
  // far, such as for a device on which they are queued.
  std::shared_ptr<void> WaitForIssued(const char* what);

  // For how long this rank's training thread has waited for other ranks so far.
  double waited_s() const { return waited_s_; }

  // Tells the others why this rank ends. No collective follows.
  void Leave(const Farewell& farewell);

 private:
  // Ends NCCL's communicators, which wait for all ranks to end them.
  void CloseDevice();
  // While one lives, the training thread waits. Inside of another, it is that one's place.
  struct Waited {
    int64_t number = 0;
    const char* what = "";
  };
  class Scope {
   public:
    Scope(Gang& gang, int64_t number, const char* what);
    ~Scope();

   private:
    Gang& gang_;
    const Waited outer_;
    const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  };

  // The ranks connect to each other within `limit`.
  Gang(const RankInfo& rank, c10::intrusive_ptr<c10d::Store> store,
       std::chrono::milliseconds limit);
  void Reduce(at::Tensor values, c10d::ReduceOp op, const char* what);
  // Throws for a collective that failed with this message.
  [[noreturn]] void Fail(const std::string& error);

  const RankInfo rank_;
  const c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  at::Device device_ = at::kCPU;
  std::vector<c10::intrusive_ptr<c10d::Backend>> device_groups_;
  std::unique_ptr<Watch> watch_;
  Waited waits_;
  double waited_s_ = 0;
  std::atomic<int64_t> issued_ = 0;  // autograd's threads issue, too
};

// Throws what a farewell of another rank means here: StopRequested or TrainerError.
[[noreturn]] void ThrowFarewell(const Farewell& farewell);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_GANG_H_
