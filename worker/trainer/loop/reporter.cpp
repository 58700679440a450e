#include "worker/trainer/loop/reporter.h"

#include <torch/version.h>
#include <unistd.h>

#include <utility>

#include "common/utf8.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {

namespace tv1 = liger::trainer::v1;

void Reporter::Ready(const std::string& device,
                     const std::vector<liger::v1::KernelRan>& kernels_ran) {
  tv1::Event event;
  tv1::Ready* ready = event.mutable_ready();
  ready->set_pid(getpid());
  ready->set_device(device);
  for (const auto& kernel : kernels_ran) *ready->add_kernels_ran() = kernel;
  if (resumed_) *ready->mutable_resumed() = *resumed_;
  (*ready->mutable_versions())["torch"] = TORCH_VERSION;
  (*ready->mutable_versions())["liger-trainer"] = LIGER_VERSION;
  Emit(event);
}

void Reporter::EnterPhase(tv1::Phase phase) {
  Tick();
  if (phase_.exchange(phase) == phase) return;
  tv1::Event event;
  event.mutable_phase()->set_phase(phase);
  Emit(event);
}

void Reporter::Alive() {
  tv1::Event event;
  event.mutable_alive()->set_phase(static_cast<tv1::Phase>(phase_.load()));
  event.mutable_alive()->set_step(step_);
  event.mutable_alive()->set_progress(Ticks());
  event.mutable_alive()->set_in_slow_call(InSlowCall());
  Emit(event);
}

void Reporter::Step(tv1::Step step) {
  Advance(step.step());
  tv1::Event event;
  *event.mutable_step() = std::move(step);
  EmitForJob(std::move(event));
}

void Reporter::Memory(const std::map<std::string, int64_t>& peaks) {
  for (const auto& [kind, bytes] : peaks) {
    int64_t& reported = reported_peaks_[kind];
    if (bytes <= reported + reported / 100) continue;
    reported = bytes;
    tv1::Event event;
    event.mutable_memory()->set_kind(kind);
    event.mutable_memory()->set_peak_bytes(bytes);
    const auto predicted = predicted_peaks_.find(kind);
    if (predicted != predicted_peaks_.end()) {
      event.mutable_memory()->set_predicted_bytes(predicted->second);
    }
    EmitForJob(std::move(event));
  }
}

void Reporter::Eval(int64_t step, const std::map<std::string, double>& values) {
  tv1::Event event;
  event.mutable_eval()->set_step(step);
  for (const auto& [name, value] : values) (*event.mutable_eval()->mutable_values())[name] = value;
  EmitForJob(std::move(event));
}

void Reporter::Sample(int64_t step, const std::string& prompt, const std::string& text) {
  tv1::Event event;
  event.mutable_sample()->set_step(step);
  event.mutable_sample()->set_prompt(prompt);
  event.mutable_sample()->set_text(text);
  EmitForJob(std::move(event));
}

void Reporter::Warn(const liger::v1::Warning& warning) {
  tv1::Event event;
  *event.mutable_warning() = warning;
  EmitForJob(std::move(event));
}

void Reporter::Warn(const std::string& code, const std::string& field, const std::string& message) {
  liger::v1::Warning warning;
  warning.set_code(code);
  warning.set_field(field);
  warning.set_message(message);
  Warn(warning);
}

void Reporter::CommandDone(const std::string& command_id, const std::string& status) {
  tv1::Event event;
  event.mutable_command_done()->set_command_id(command_id);
  event.mutable_command_done()->set_status(status);
  EmitForJob(std::move(event));
}

bool Reporter::Saved(const tv1::Saved& saved) {
  tv1::Event event;
  *event.mutable_saved() = saved;
  return EmitForJob(std::move(event));
}

bool Reporter::CheckResult(const tv1::CheckResult& result) {
  tv1::Event event;
  *event.mutable_check_result() = result;
  return EmitForJob(std::move(event));
}

void Reporter::TellAtEnd(std::function<tv1::Inputs()> inputs) {
  absl::MutexLock lock(&mutex_);
  inputs_ = std::move(inputs);
}

void Reporter::TellInputs() {
  std::function<tv1::Inputs()> inputs;
  {
    absl::MutexLock lock(&mutex_);
    inputs = std::exchange(inputs_, nullptr);
  }
  if (inputs == nullptr) return;
  tv1::Event event;
  *event.mutable_inputs() = inputs();
  EmitForJob(std::move(event));
}

bool Reporter::Done() {
  TellInputs();
  tv1::Event event;
  event.mutable_done();
  return Emit(event);
}

bool Reporter::Paused(int64_t step) {
  TellInputs();
  tv1::Event event;
  event.mutable_paused()->set_step(step);
  return Emit(event);
}

bool Reporter::Failed(const liger::v1::Failure& failure) {
  TellInputs();
  tv1::Event event;
  *event.mutable_failed() = failure;
  return Emit(event);
}

bool Reporter::EmitForJob(tv1::Event event) { return !leads_ || Emit(std::move(event)); }

bool Reporter::Emit(tv1::Event event) {
  // A message may quote a file that is in another encoding.
  MakeStringsValid(&event);
  bool stored = true;
  for (EventSink* sink : sinks_) stored = sink->Emit(event) && stored;
  return stored;
}

Heartbeat::Heartbeat(Reporter& reporter, absl::Duration interval)
    : thread_([this, &reporter, interval] {
        do {
          reporter.Alive();
        } while (!stop_.WaitForNotificationWithTimeout(interval));
      }) {}

Heartbeat::~Heartbeat() {
  stop_.Notify();
  thread_.join();
}

}  // namespace liger::trainer
