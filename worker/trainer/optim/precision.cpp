#include "worker/trainer/optim/precision.h"

#include <c10/core/ScalarType.h>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using liger::v1::DType;
using liger::v1::Precision;
using liger::v1::TrainingSpec;

PrecisionPlan PresetPlan(Precision preset) {
  constexpr auto kF32 = at::kFloat;
  constexpr auto kB16 = at::kBFloat16;
  switch (preset) {
    case liger::v1::PRECISION_BF16_MIXED:
      return {kF32, kB16, kF32, kF32, Rounding::kNearest};
    case liger::v1::PRECISION_BF16_STOCHASTIC:
      return {kB16, kB16, kB16, kB16, Rounding::kStochastic};
    case liger::v1::PRECISION_BF16_NEAREST:
      return {kB16, kB16, kB16, kB16, Rounding::kNearest};
    default:
      return {kF32, kF32, kF32, kF32, Rounding::kNearest};
  }
}

Precision EffectivePreset(const TrainingSpec& training, bool on_gpu) {
  if (training.precision() != liger::v1::PRECISION_UNSPECIFIED) return training.precision();
  if (training.has_bf16()) {
    return training.bf16() ? liger::v1::PRECISION_BF16_MIXED : liger::v1::PRECISION_FP32;
  }
  return on_gpu ? liger::v1::PRECISION_BF16_MIXED : liger::v1::PRECISION_FP32;
}

void Override(const char* field, DType dtype, at::ScalarType& target) {
  switch (dtype) {
    case liger::v1::DTYPE_UNSPECIFIED:
      return;
    case liger::v1::DTYPE_FP32:
      target = at::kFloat;
      return;
    case liger::v1::DTYPE_BF16:
      target = at::kBFloat16;
      return;
    default:
      throw ConfigError("training." + std::string(field) + ": fp16 is not implemented",
                        "use fp32 or bf16 (fp16 would need loss scaling)")
          .Field("training." + std::string(field));
  }
}

}  // namespace

std::string PrecisionPlan::Describe() const {
  return std::string("storage ") + c10::toString(storage) + ", compute " + c10::toString(compute) +
         ", gradient " + c10::toString(gradient) + ", optimizer " + c10::toString(optimizer) +
         (rounding == Rounding::kStochastic ? ", stochastic rounding" : "");
}

PrecisionPlan ResolvePrecision(const TrainingSpec& training, bool on_gpu) {
  PrecisionPlan plan = PresetPlan(EffectivePreset(training, on_gpu));
  Override("storage_dtype", training.storage_dtype(), plan.storage);
  Override("compute_dtype", training.compute_dtype(), plan.compute);
  Override("gradient_dtype", training.gradient_dtype(), plan.gradient);
  Override("optimizer_dtype", training.optimizer_dtype(), plan.optimizer);
  if (plan.storage == at::kBFloat16 && plan.compute == at::kFloat) {
    throw ConfigError("training.compute_dtype: fp32 compute over bf16 storage is not implemented",
                      "store in fp32 as well, or compute in bf16")
        .Field("training.compute_dtype");
  }
  return plan;
}

std::optional<liger::v1::Warning> PrecisionWarning(const PrecisionPlan& plan) {
  if (plan.storage != at::kBFloat16 || plan.rounding != Rounding::kNearest) return std::nullopt;
  liger::v1::Warning warning;
  warning.set_code("Bf16Nearest");
  warning.set_field("training.precision");
  warning.set_message(
      "bf16 parameters rounded to nearest lose most small steps (0.4 % of SmolLM2's weights change "
      "at learning rate 1e-6); use BF16_MIXED or BF16_STOCHASTIC unless you compare with a recipe "
      "that does this");
  return warning;
}

}  // namespace liger::trainer
