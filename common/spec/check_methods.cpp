#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/plural.h"
#include "common/spec/checks.h"
#include "common/spec/spec.h"
#include "common/spec/suggest.h"

namespace liger {
namespace {

constexpr Checks::Range kRanges[] = {
    {"dpo.beta", 0, true, Checks::kInfinity, true},
    {"dpo.label_smoothing", 0, false, 0.5, true},
    {"dpo.ld_alpha", 0, false, 1, false},
    {"dpo.f_alpha_divergence_coef", -Checks::kInfinity, true, Checks::kInfinity, true},
    {"dpo.discopop_tau", 0, true, Checks::kInfinity, true},
    {"dpo.ref_model_mixup_alpha", 0, true, 1, false},
    {"dpo.ref_model_sync_steps", 1, false, Checks::kInfinity, true},
    {"cpo.beta", 0, true, Checks::kInfinity, true},
    {"cpo.label_smoothing", 0, false, 0.5, true},
    {"cpo.cpo_alpha", 0, false, Checks::kInfinity, true},
    {"cpo.simpo_gamma", 0, false, Checks::kInfinity, true},
    {"sft.label_smoothing_factor", 0, false, 1, true},
    {"sft.z_loss_weight", 0, false, Checks::kInfinity, true},
    {"sft.neftune_noise_alpha", 0, false, Checks::kInfinity, true},
    {"orpo.beta", 0, true, Checks::kInfinity, true},
    {"kto.beta", 0, true, Checks::kInfinity, true},
    {"kto.desirable_weight", 0, true, Checks::kInfinity, true},
    {"kto.undesirable_weight", 0, true, Checks::kInfinity, true},
};

const std::vector<std::string> kDpoLosses = {"sigmoid",  "hinge",        "ipo",         "exo_pair",
                                             "nca_pair", "robust",       "bco_pair",    "sppo_hard",
                                             "aot",      "aot_unpaired", "apo_zero",    "apo_down",
                                             "discopop", "sft",          "sigmoid_norm"};
const std::vector<std::string> kDivergences = {"reverse_kl", "forward_kl", "js_divergence",
                                               "alpha_divergence"};

std::string Trainable() { return absl::StrJoin(kTrainableMethods, ", "); }

void CheckMethod(Checks& checks) {
  const std::string method = MethodName(checks.spec());
  if (method.empty()) {
    checks.Add("method", absl::StrCat("is not set; name a trainer, one of ", Trainable()));
  } else if (std::find(std::begin(kTrainableMethods), std::end(kTrainableMethods), method) ==
             std::end(kTrainableMethods)) {
    checks.Add(method, absl::StrCat("is not available in this version; use one of ", Trainable()));
  }
}

// What TRL's DPOTrainer refuses too.
void CheckDpo(Checks& checks) {
  const auto& dpo = checks.spec().dpo();
  const auto has = [&](std::initializer_list<const char*> types) {
    return std::any_of(types.begin(), types.end(), [&](const char* type) {
      return std::find(dpo.loss_type().begin(), dpo.loss_type().end(), type) !=
             dpo.loss_type().end();
    });
  };
  for (const std::string& type : dpo.loss_type()) {
    const std::string several = SeveralAsList(type);
    if (several.empty()) {
      checks.OneOf("dpo.loss_type", type, kDpoLosses);
    } else {
      checks.Add("dpo.loss_type", absl::StrCat("'", type, "' is no loss type", several));
    }
  }
  if (!dpo.loss_weights().empty() && dpo.loss_weights_size() != std::max(dpo.loss_type_size(), 1)) {
    checks.Add("dpo.loss_weights",
               absl::StrCat("has ", Plural(dpo.loss_weights_size(), "weight"), " for ",
                            Plural(std::max(dpo.loss_type_size(), 1), "loss type")));
  }
  for (const double weight : dpo.loss_weights()) {
    if (!std::isfinite(weight) || weight < 0) {
      checks.Add("dpo.loss_weights", absl::StrCat(weight, " is not a finite number of at least 0"));
    }
  }
  if (!dpo.loss_weights().empty() &&
      std::all_of(dpo.loss_weights().begin(), dpo.loss_weights().end(),
                  [](double weight) { return weight == 0; })) {
    checks.Add("dpo.loss_weights", "are all 0, so there is no loss; give one of them above 0");
  }
  if (!dpo.f_divergence_type().empty()) {
    checks.OneOf("dpo.f_divergence_type", dpo.f_divergence_type(), kDivergences);
    if (dpo.f_divergence_type() != "reverse_kl" &&
        has({"nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down"})) {
      checks.Add("dpo.f_divergence_type",
                 absl::StrCat("'", dpo.f_divergence_type(), "' has no meaning for dpo.loss_type ",
                              absl::StrJoin(dpo.loss_type(), ", "), "; use reverse_kl"));
    }
  }
  if (dpo.use_weighting() && has({"aot", "aot_unpaired"})) {
    checks.Add("dpo.use_weighting", "weights pairs, and aot compares no pairs; remove one of them");
  }
  if (dpo.has_label_smoothing() && dpo.label_smoothing() == 0 && has({"exo_pair"})) {
    checks.Add("dpo.label_smoothing", "must be above 0 for exo_pair, such as 1e-3");
  }
  if (dpo.precompute_ref_log_probs() && dpo.sync_ref_model()) {
    checks.Add("dpo.precompute_ref_log_probs",
               "computes the reference's log-probabilities once, and sync_ref_model moves the "
               "reference; remove one of them");
  }
}

void CheckCpo(Checks& checks) {
  const auto& cpo = checks.spec().cpo();
  if (!cpo.loss_type().empty()) {
    checks.OneOf("cpo.loss_type", cpo.loss_type(), {"sigmoid", "hinge", "ipo", "simpo"});
  }
}

// Which tokens have a loss is said once.
void CheckSft(Checks& checks) {
  const auto& sft = checks.spec().sft();
  if (!sft.instruction_template().empty() && sft.response_template().empty()) {
    checks.Add("sft.instruction_template", "needs sft.response_template beside it");
  }
  if (sft.response_template().empty()) return;
  for (const auto& [set, field] :
       {std::pair(sft.completion_only_loss(), "sft.completion_only_loss"),
        std::pair(sft.assistant_only_loss(), "sft.assistant_only_loss")}) {
    if (set) checks.Add(field, "cannot be given together with sft.response_template; keep one");
  }
}

void CheckPacking(Checks& checks) {
  const auto& sft = checks.spec().sft();
  if (!sft.packing_strategy().empty()) {
    checks.OneOf("sft.packing_strategy", sft.packing_strategy(), {"bfd", "wrapped"});
  }
  if (sft.packing() && sft.packing_strategy() == "wrapped" &&
      checks.spec().training().truncation_mode() == "keep_end") {
    checks.Add("training.truncation_mode",
               "keep_end has no meaning for sft.packing_strategy wrapped, which cuts nothing off; "
               "remove it");
  }
}

void CheckKto(Checks& checks) {
  if (!checks.spec().kto().loss_type().empty()) {
    checks.OneOf("kto.loss_type", checks.spec().kto().loss_type(), {"kto", "apo_zero_unpaired"});
  }
  const bool estimates_kl = checks.spec().kto().loss_type() != "apo_zero_unpaired";
  if (estimates_kl && checks.spec().training().has_per_device_train_batch_size() &&
      checks.spec().training().per_device_train_batch_size() == 1 &&
      checks.spec().resources().count() <=
          std::max(1, checks.spec().parallel().sequence_parallel_size())) {
    // Where several devices have rows, those of all of them are mixed.
    checks.Add("training.per_device_train_batch_size",
               "1 leaves kto no other row's answer to estimate its KL term with; use at least 2");
  }
}

}  // namespace

void CheckMethods(Checks& checks) {
  CheckMethod(checks);
  if (checks.spec().has_sft()) CheckPacking(checks);
  if (checks.spec().has_dpo()) CheckDpo(checks);
  if (checks.spec().has_kto()) CheckKto(checks);
  if (checks.spec().has_cpo()) CheckCpo(checks);
  if (checks.spec().has_sft()) CheckSft(checks);
  checks.InRanges(kRanges);
}

}  // namespace liger
