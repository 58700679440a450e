#ifndef LIGER_WORKER_TRAINER_OPTIM_PRECISION_H_
#define LIGER_WORKER_TRAINER_OPTIM_PRECISION_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

// How a value is brought to a dtype with fewer bits.
enum class Rounding {
  kNearest,
  // Up or down with the probability that makes the mean exact, so that steps
  // smaller than half a unit in the last place are not lost but rare.
  kStochastic,
};

// The four dtypes of a job, and how the optimizer rounds.
struct PrecisionPlan {
  at::ScalarType storage = at::kFloat;    // parameters as kept and saved
  at::ScalarType compute = at::kFloat;    // parameters as the model's forward sees them
  at::ScalarType gradient = at::kFloat;   // gradients as accumulated over micro-batches
  at::ScalarType optimizer = at::kFloat;  // exp_avg and exp_avg_sq
  Rounding rounding = Rounding::kNearest;

  // The forward runs on copies of the stored parameters.
  bool has_compute_copy() const { return storage != compute; }
  std::string Describe() const;
};

// Resolves training.precision (or bf16) and the per-dtype overrides. Without
// either: fp32 on a CPU, bf16_mixed on a GPU. Throws TrainerError (CONFIG) for
// a combination that is not implemented, naming the field.
PrecisionPlan ResolvePrecision(const liger::v1::TrainingSpec& training, bool on_gpu);

// What the user should know about the plan; nullopt when there is nothing.
std::optional<liger::v1::Warning> PrecisionWarning(const PrecisionPlan& plan);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_PRECISION_H_
