#ifndef LIGER_WORKER_TRAINER_LOOP_REPORTER_H_
#define LIGER_WORKER_TRAINER_LOOP_REPORTER_H_

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/loop/events.h"

namespace liger::trainer {

// Tells the outside what the task does: fills in events and hands them to the
// sinks. Thread-safe.
class Reporter {
 public:
  // Sinks are not owned and must outlive this. `leads`: this is rank 0, which speaks for the job;
  // another one tells only of itself (Ready, Phase, Alive, Done, Failed).
  explicit Reporter(std::vector<EventSink*> sinks, bool leads = true)
      : sinks_(std::move(sinks)), leads_(leads) {}

  void Ready(const std::string& device, const std::vector<liger::v1::KernelRan>& kernels_ran);
  // Ready tells it from then on.
  void GoesOnFrom(const liger::v1::ResumedFrom& resumed) { resumed_ = resumed; }
  void EnterPhase(liger::trainer::v1::Phase phase);
  liger::trainer::v1::Phase phase() const {
    return static_cast<liger::trainer::v1::Phase>(phase_.load());
  }
  void Alive();
  // The step that was finished last, for Alive; logged steps are told by Step.
  void Advance(int64_t step) { step_ = step; }
  void Step(liger::trainer::v1::Step step);
  // What Memory is expected to tell of a kind; goes with it from then on. Before the first step.
  void Predict(const std::string& kind, int64_t bytes) { predicted_peaks_[kind] = bytes; }
  // Emits each kind whose peak rose by more than 1 % since it was last told.
  void Memory(const std::map<std::string, int64_t>& peaks);
  void Eval(int64_t step, const std::map<std::string, double>& values);
  void Sample(int64_t step, const std::string& prompt, const std::string& text);
  void Warn(const liger::v1::Warning& warning);
  void Warn(const std::string& code, const std::string& field, const std::string& message);
  void CommandDone(const std::string& command_id, const std::string& status);
  // What `inputs` returns is told just before the task's last event.
  void TellAtEnd(std::function<liger::trainer::v1::Inputs()> inputs);

  // These decide the task; false when some sink could not store them.
  bool Saved(const liger::trainer::v1::Saved& saved);
  bool CheckResult(const liger::trainer::v1::CheckResult& result);
  bool Done();
  bool Failed(const liger::v1::Failure& failure);
  bool Paused(int64_t step);

 private:
  bool Emit(liger::trainer::v1::Event event);
  void TellInputs();
  // What is rank 0's to tell; true on others.
  bool EmitForJob(liger::trainer::v1::Event event);

  const std::vector<EventSink*> sinks_;
  const bool leads_;
  std::atomic<int> phase_{0};
  std::atomic<int64_t> step_{0};
  // Training thread only.
  std::map<std::string, int64_t> reported_peaks_, predicted_peaks_;
  std::optional<liger::v1::ResumedFrom> resumed_;
  absl::Mutex mutex_;
  std::function<liger::trainer::v1::Inputs()> inputs_ ABSL_GUARDED_BY(mutex_);
};

// Emits Alive at an interval from a thread of its own while it exists, so that
// a long operation is not taken for a hang of the process. That the work hangs
// shows in Alive's count of ticks (worker/trainer/ticks.h).
class Heartbeat {
 public:
  explicit Heartbeat(Reporter& reporter, absl::Duration interval = absl::Seconds(2));
  ~Heartbeat();

 private:
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_REPORTER_H_
