#ifndef LIGER_WORKER_TRAINER_LOOP_STEP_PROFILE_H_
#define LIGER_WORKER_TRAINER_LOOP_STEP_PROFILE_H_

#include <cstdint>
#include <string>

namespace liger::trainer {

// For who measures the trainer: while one lives, every GPU kernel and operation of the step is
// recorded (PyTorch's profiler, Kineto), if the environment asks for that step:
//   LIGER_PROFILE=STEP:FILE
// The end writes FILE, a Chrome trace, which tests/bench/trace_summary.py reads. A recorded step
// takes longer than others. Throws TrainerError (CONFIG) where the value is of another form.
class StepProfile {
 public:
  StepProfile(int64_t step, bool on_gpu);
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

 private:
  std::string file_;  // empty: not this step
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_STEP_PROFILE_H_
