#include "common/spec/metric_names.h"

namespace liger {

std::vector<std::string> EvaluationMetrics(const liger::v1::JobSpec& spec) {
  std::vector<std::string> names = {"loss", "runtime"};
  const auto add = [&](const std::vector<std::string>& more) {
    names.insert(names.end(), more.begin(), more.end());
  };
  if (spec.has_sft()) {
    add({"entropy", "mean_token_accuracy"});
    return names;
  }
  add({"rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected",
       "logits/chosen", "logits/rejected"});
  if (!spec.has_kto()) add({"rewards/accuracies"});
  if (spec.has_kto()) add({"kl", "entropy"});
  if (spec.has_dpo()) add({"entropy", "mean_token_accuracy"});
  if (spec.has_orpo()) add({"nll_loss", "log_odds_ratio", "log_odds_chosen"});
  if (spec.has_cpo()) add({"nll_loss"});
  return names;
}

}  // namespace liger
