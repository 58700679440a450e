#include "worker/trainer/loop/best_model.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "worker/trainer/error.h"

namespace liger::trainer {

BestModel::BestModel(const liger::v1::TrainingSpec& training)
    : metric_(training.metric_for_best_model()),
      greater_is_better_(training.greater_is_better()),
      load_best_(training.load_best_model_at_end()),
      patience_(training.early_stopping_patience()),
      threshold_(training.early_stopping_threshold()) {
  if (!metric_.starts_with("eval_")) metric_ = "eval_" + metric_;
  state_.of =
      absl::StrCat(metric_, ", the ", greater_is_better_ ? "greater" : "lower", " the better");
}

void BestModel::SetRows(const DataStats& eval) {
  state_.rows = absl::StrCat(eval.rows, " rows, ", eval.tokens, " tokens, ", eval.target_tokens,
                             " trained on, digest ", eval.digest);
}

std::string BestModel::IncomparableFor(const State& state) const {
  if (!tracks() || !state.metric || state.of.empty()) return "";
  if (state.of != state_.of) return "training.metric_for_best_model";
  const bool other_rows = !state_.rows.empty() && state.rows != state_.rows;
  return other_rows ? "dataset.eval_uri" : "";
}

void BestModel::Restore(const State& state) {
  state_.metric = state.metric;
  state_.step = state.step;
  state_.patience_used = state.patience_used;
}

void BestModel::RequireMetric(const std::map<std::string, double>& values) const {
  if (!tracks() || values.contains(metric_)) return;
  std::string known;
  for (const auto& [name, value] : values) known += (known.empty() ? "" : ", ") + name;
  throw ConfigError("training.metric_for_best_model: evaluations have no '" + metric_ + "'",
                    "use one of " + known)
      .Field("training.metric_for_best_model");
}

bool BestModel::Better(double value, double than) const {
  return greater_is_better_ ? value > than : value < than;
}

bool BestModel::Update(int64_t step, const std::map<std::string, double>& values) {
  if (!tracks()) return false;
  RequireMetric(values);
  const double value = values.at(metric_);
  const std::optional<double> best = state_.metric;
  const bool enough = !best || (Better(value, *best) && std::abs(value - *best) > threshold_);
  state_.patience_used = enough ? 0 : state_.patience_used + 1;
  // Any improvement makes the best model, also one below the threshold.
  if (!std::isfinite(value) || (best && !Better(value, *best))) return false;
  state_.metric = value;
  state_.step = step;
  return true;
}

liger::v1::BestEvaluation BestModel::Told(int64_t last_step, int64_t max_steps) const {
  liger::v1::BestEvaluation told;
  if (should_stop() && last_step < max_steps) told.set_stopped_after_step(last_step);
  if (!state_.metric) return told;
  told.set_step(state_.step);
  told.set_metric(metric_);
  told.set_value(*state_.metric);
  return told;
}

}  // namespace liger::trainer
