#include "worker/trainer/optim/optimizer.h"

#include <ATen/ATen.h>

#include "worker/trainer/error.h"
#include "worker/trainer/optim/adafactor.h"
#include "worker/trainer/optim/adamw.h"
#include "worker/trainer/optim/adamw_8bit.h"
#include "worker/trainer/optim/lion.h"
#include "worker/trainer/optim/sgd.h"

namespace liger::trainer {

void Optimizer::Step(const std::vector<at::Tensor>& grads, double learning_rate,
                     double grad_scale) {
  Step(grads, learning_rate, at::scalar_tensor(grad_scale, at::kDouble));
}

std::unique_ptr<Optimizer> MakeOptimizer(const liger::v1::TrainingSpec& training,
                                         TrainableParameters& parameters,
                                         const PrecisionPlan& precision) {
  const std::string& name = training.optim();
  const auto seed = static_cast<uint64_t>(training.seed());
  const AdamWOptions adam = AdamWOptions::FromSpec(training);
  if (name.empty() || name == "adamw") {
    return std::make_unique<AdamW>(parameters, adam, precision, seed);
  }
  if (name == "adamw_8bit") return std::make_unique<AdamW8bit>(parameters, adam, precision, seed);
  if (name == "lion") return std::make_unique<Lion>(parameters, adam, precision, seed);
  if (name == "adafactor") {
    return std::make_unique<Adafactor>(parameters, training.weight_decay(), precision, seed);
  }
  if (name == "sgd") {
    const SgdOptions options{training.sgd_momentum(), training.weight_decay()};
    return std::make_unique<Sgd>(parameters, options, precision, seed);
  }
  throw ConfigError("training.optim: '" + name + "' is no optimizer",
                    "use adamw, adamw_8bit, adafactor, lion or sgd")
      .Field("training.optim");
}

void LoadState(const std::map<std::string, at::Tensor>& state, const std::string& key,
               at::Tensor target) {
  constexpr char kAction[] = "resume from a checkpoint of the same model and optimizer";
  const auto it = state.find(key);
  if (it == state.end()) {
    throw ConfigError("optimizer state: tensor '" + key + "' is missing", kAction);
  }
  if (it->second.sizes() != target.sizes()) {
    throw ConfigError("optimizer state: tensor '" + key + "' has the wrong shape", kAction);
  }
  if (it->second.scalar_type() != target.scalar_type()) {
    throw ConfigError("optimizer state: tensor '" + key + "' is " +
                          c10::toString(it->second.scalar_type()) + ", not " +
                          c10::toString(target.scalar_type()),
                      kAction);
  }
  target.copy_(it->second);
}

}  // namespace liger::trainer
