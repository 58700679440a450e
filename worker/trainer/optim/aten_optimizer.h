#ifndef LIGER_WORKER_TRAINER_OPTIM_ATEN_OPTIMIZER_H_
#define LIGER_WORKER_TRAINER_OPTIM_ATEN_OPTIMIZER_H_

#include <ATen/core/Generator.h>

#include <optional>

#include "worker/trainer/optim/optimizer.h"

namespace liger::trainer {

// An optimizer made of ATen's ops, on any device, in fp32: one parameter at a
// time, or many by _foreach ops. What AdamW fuses into one pass costs these several.
class AtenOptimizer : public Optimizer {
 public:
  using Optimizer::Step;
  // Waits for `grad_scale`.
  void Step(const std::vector<at::Tensor>& grads, double learning_rate,
            const at::Tensor& grad_scale) final;
  std::map<std::string, at::Tensor> StateDict() const final;
  void LoadStateDict(const std::map<std::string, at::Tensor>& state) final;
  int64_t StateBytes() const final;

 protected:
  using Entry = TrainableParameters::Entry;
  using States = std::map<std::string, at::Tensor>;

  AtenOptimizer(TrainableParameters& parameters, const PrecisionPlan& precision, uint64_t seed)
      : parameters_(parameters),
        state_dtype_(precision.optimizer),
        rounding_(precision.rounding),
        seed_(seed) {}

  // Before parameters are updated, of all of them at once: what an update needs of whole parameters
  // where ranks have parts. `grads` as Step's, to be scaled by `scale`.
  virtual void PrepareUpdates(const std::vector<at::Tensor>& grads, double scale) {}

  // The states of a parameter before its first step, zeros, on `device` (meta:
  // only their sizes are wanted).
  virtual States MakeStates(const Entry& entry, at::Device device) const = 0;
  // Updates fp32 `param` and the states in place. `grad` is fp32 and may be the
  // gradient itself: not to be written. REQUIRES: UpdateMany is not overridden.
  virtual void Update(const Entry& entry, at::Tensor param, const at::Tensor& grad,
                      double learning_rate, States& states);

  // Parameters that are updated together, with what Update gets of each.
  struct Many {
    std::vector<const Entry*> entries;
    std::vector<at::Tensor> params, grads;
    std::vector<States*> states;
  };
  // Update of each.
  virtual void UpdateMany(Many& many, double learning_rate);
  // The state of each in fp32, as InFp32.
  static std::vector<at::Tensor> StatesInFp32(const Many& many, const char* name);
  // Keep of each.
  void KeepAll(const Many& many, const char* name, const std::vector<at::Tensor>& values_f32) const;

  // A state for Update to work on, in fp32: the state itself when it is that.
  static at::Tensor InFp32(const at::Tensor& state) { return state.to(at::kFloat); }
  // Writes what Update made of InFp32's tensor.
  void Keep(at::Tensor state, const at::Tensor& value_f32) const;

  TrainableParameters& parameters() const { return parameters_; }
  // Of an entry.
  const States& states(size_t index) const { return states_[index]; }
  at::ScalarType state_dtype() const { return state_dtype_; }
  // From 1, of the step that Update is part of.
  int64_t step_count() const { return step_count_; }

 private:
  void AllocateStates();
  void StepMany(const std::vector<at::Tensor>& grads, size_t begin, size_t end,
                double learning_rate, double scale);

  TrainableParameters& parameters_;
  at::ScalarType state_dtype_;
  Rounding rounding_;
  uint64_t seed_;
  int64_t step_count_ = 0;
  std::optional<at::Generator> generator_;  // of the present step
  std::vector<States> states_;              // by entry
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_ATEN_OPTIMIZER_H_
