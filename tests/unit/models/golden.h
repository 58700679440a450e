#ifndef LIGER_TESTS_UNIT_MODELS_GOLDEN_H_
#define LIGER_TESTS_UNIT_MODELS_GOLDEN_H_

#include <ATen/ATen.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/data/batch.h"
#include "worker/trainer/loop/step.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/optim/adamw.h"

// What tools/fixtures/model_fixtures.py wrote, and what the tests do with it.
namespace liger::trainer::golden {

// The folders below tests/golden/models/tiny, one a set of features.
std::vector<std::string> TinyCases();

std::string Folder(const std::string& name);  // below tests/golden/models
nlohmann::json ReadJson(const std::string& path);

// A kernels message by name: LIGER, BASELINE, or one op's name: only that one.
liger::v1::KernelSpec Kernels(const std::string& name);

// Built from a Hugging Face folder with its weights, fp32.
std::shared_ptr<CausalLM> LoadModel(const std::string& folder, const std::string& kernels);

// From a list of {input_ids, labels}, of {chosen, rejected} pairs of those, or of
// {input_ids, labels, label}.
Batch SftBatch(const nlohmann::json& sequences);
Batch PairBatch(const nlohmann::json& pairs);
Batch LabelledBatch(const nlohmann::json& rows);

// The batch as one whole optimizer step.
LossOutput WholeStep(Objective& objective, CausalLM& model, const Batch& batch);

double RelativeError(const at::Tensor& actual, const at::Tensor& expected);

// A model with what the loop's own step needs beside it, on one rank.
class Trainee {
 public:
  // `objective` and `model` must outlive this.
  Trainee(Objective& objective, CausalLM& model, const AdamWOptions& options = {},
          const PrecisionPlan& precision = {});

  StepResult Step(const std::vector<Batch>& micro_batches, double learning_rate,
                  double max_grad_norm);

  TrainableParameters& parameters() { return parameters_; }
  const AdamW& optimizer() const { return optimizer_; }

 private:
  TrainableParameters parameters_;
  AdamW optimizer_;
  std::unique_ptr<Strategy> strategy_;
  StopFlag stop_;
  StepParts parts_;
  int64_t step_ = 0;
};

// Trains on one batch a step with RunStep and AdamW, without clipping, and returns
// each step's metrics, measured before its update.
std::vector<std::map<std::string, double>> Train(Objective& objective, CausalLM& model,
                                                 const std::vector<Batch>& batches, double lr);

}  // namespace liger::trainer::golden

#endif  // LIGER_TESTS_UNIT_MODELS_GOLDEN_H_
