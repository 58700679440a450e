#include "absl/strings/str_cat.h"
#include "common/spec/checks.h"
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
  if (checks.spec().dpo().sync_ref_model()) {
    constexpr char kMoves[] =
        "does not go with dpo.sync_ref_model: the reference that moves is in no checkpoint yet; "
        "remove one of them";
    if (training.save_steps() > 0) checks.Add("training.save_steps", kMoves);
    if (!training.resume_from_checkpoint().empty()) {
      checks.Add("training.resume_from_checkpoint", kMoves);
    }
  }
}

}  // namespace liger
