#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/spec/checks.h"
#include "common/spec/metric_names.h"
#include "common/spec/spec.h"

namespace liger {
namespace {

constexpr Checks::Range kRanges[] = {
    {"training.sgd_momentum", 0, false, 1, true},
    {"training.save_steps", 0, false, Checks::kInfinity, true},
    {"training.save_total_limit", 0, false, Checks::kInfinity, true},
    {"training.early_stopping_patience", 0, false, Checks::kInfinity, true},
    {"training.early_stopping_threshold", 0, false, Checks::kInfinity, true},
};

const std::vector<std::string> kOptimizers = {
    "adamw",       "adamw_8bit",        "adafactor",      "lion",      "sgd",
    "adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "lion_32bit"};

// What an evaluation decides needs evaluations.
void CheckDecidedByEvaluation(Checks& checks, const std::string& field) {
  const auto& dataset = checks.spec().dataset();
  if (dataset.eval_fraction() <= 0 && dataset.eval_uri().empty()) {
    checks.Add(field, "needs an evaluation set; give dataset.eval_fraction or dataset.eval_uri");
  }
  if (checks.spec().training().eval_steps() == 0) {
    checks.Add(field, "needs evaluations during training; set training.eval_steps");
  }
}

void CheckBestMetric(Checks& checks) {
  std::string metric = checks.spec().training().metric_for_best_model();
  if (metric.empty()) return;
  constexpr std::string_view kPrefix = "eval_";
  if (metric.starts_with(kPrefix)) metric.erase(0, kPrefix.size());
  if (metric == kRouterLossMetric) return;  // whether the model has it, a worker sees
  checks.OneOf("training.metric_for_best_model", metric, EvaluationMetrics(checks.spec()));
}

}  // namespace

void CheckRun(Checks& checks) {
  checks.InRanges(kRanges);
  const auto& training = checks.spec().training();
  if (!training.optim().empty()) checks.OneOf("training.optim", training.optim(), kOptimizers);
  if (training.load_best_model_at_end()) {
    CheckDecidedByEvaluation(checks, "training.load_best_model_at_end");
  }
  if (training.early_stopping_patience() > 0) {
    CheckDecidedByEvaluation(checks, "training.early_stopping_patience");
  }
  CheckBestMetric(checks);
}

}  // namespace liger
