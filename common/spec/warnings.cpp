#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/plural.h"
#include "common/spec/spec.h"

namespace liger {
namespace {

using liger::v1::JobSpec;
using liger::v1::KernelSpec;
using liger::v1::TrainingSpec;
using liger::v1::Warning;

void Say(const char* code, const std::string& field, const std::string& message,
         std::vector<Warning>* warnings) {
  Warning& warning = warnings->emplace_back();
  warning.set_code(code);
  warning.set_field(field);
  warning.set_message(message);
}

void Warn(const std::string& field, const std::string& message, std::vector<Warning>* warnings) {
  Say("NoEffect", field, field + " has no effect: " + message, warnings);
}

bool HasEvaluation(const JobSpec& spec) {
  return spec.dataset().eval_fraction() > 0 || !spec.dataset().eval_uri().empty();
}

void WarnOfEvaluation(const JobSpec& spec, std::vector<Warning>* warnings) {
  if (HasEvaluation(spec)) return;
  constexpr char kNoSet[] =
      "there is no evaluation set; give dataset.eval_fraction or dataset.eval_uri";
  if (spec.training().eval_steps() > 0) Warn("training.eval_steps", kNoSet, warnings);
  if (spec.training().eval_on_start()) Warn("training.eval_on_start", kNoSet, warnings);
  if (spec.dataset().max_eval_samples() > 0) Warn("dataset.max_eval_samples", kNoSet, warnings);
}

void WarnOfTraining(const JobSpec& spec, std::vector<Warning>* warnings) {
  const auto& training = spec.training();
  if (training.gradient_checkpointing()) {
    if (training.activation_offloading() &&
        spec.resources().device_kind() == liger::v1::DEVICE_KIND_CPU) {
      Warn("training.activation_offloading", "the job runs on a CPU", warnings);
    }
    return;
  }
  constexpr char kOff[] = "gradient_checkpointing is off";
  if (training.gradient_checkpointing_every() > 1) {
    Warn("training.gradient_checkpointing_every", kOff, warnings);
  }
  if (training.gradient_checkpointing_keep_attention()) {
    Warn("training.gradient_checkpointing_keep_attention", kOff, warnings);
  }
  if (training.activation_offloading()) Warn("training.activation_offloading", kOff, warnings);
}

// The schedules are transformers', which take such numbers, too.
void WarnOfShortSchedule(const TrainingSpec& training, int64_t of_job,
                         std::vector<Warning>* warnings) {
  const double steps = static_cast<double>(of_job);
  if (training.warmup_steps() >= std::max(1.0, steps)) {
    Say("NeverReached", "training.warmup_steps",
        absl::StrCat("training.learning_rate is never reached: the warm-up has ",
                     training.warmup_steps(), " steps and the job ", of_job),
        warnings);
    return;
  }
  const double share =
      training.warmup_steps() > 0 ? training.warmup_steps() : training.warmup_ratio();
  const double warmup = share < 1 ? std::ceil(share * steps) : share;
  const auto& kwargs = training.lr_scheduler_kwargs();
  if (kwargs.has_num_stable_steps()) {
    const double end = warmup + static_cast<double>(kwargs.num_stable_steps()) +
                       static_cast<double>(kwargs.num_decay_steps());
    if (end <= steps) return;
    Say("NeverReached", "training.lr_scheduler_kwargs.num_stable_steps",
        absl::StrCat("the end of the learning rate's decay is never reached: with warm-up, ",
                     "num_stable_steps and num_decay_steps it is at step ", end,
                     ", and the job has ", of_job),
        warnings);
  } else if (static_cast<double>(kwargs.num_decay_steps()) + warmup > steps) {
    Say("NeverReached", "training.lr_scheduler_kwargs.num_decay_steps",
        absl::StrCat("training.learning_rate is never reached: with its warm-up the decay of ",
                     kwargs.num_decay_steps(), " steps has more than the job's ", of_job),
        warnings);
  }
}

// What is due after more steps than there are.
void WarnOfNeverDue(const JobSpec& spec, int64_t steps, std::vector<Warning>* warnings) {
  const auto& training = spec.training();
  const std::string has = absl::StrCat("the job has ", Plural(steps, "step"));
  if (training.save_steps() > steps) Warn("training.save_steps", has, warnings);
  if (HasEvaluation(spec) && training.eval_steps() > steps) {
    Warn("training.eval_steps", has + ", after which it is evaluated anyway", warnings);
  }
}

// Of options that none of the loss types has; a value other than the default was asked for.
void WarnOfDpoLoss(const liger::v1::DpoMethod& dpo, std::vector<Warning>* warnings) {
  std::vector<std::string> types = {dpo.loss_type().begin(), dpo.loss_type().end()};
  if (types.empty()) types = {"sigmoid"};
  const auto has = [&](const std::vector<std::string>& any) {
    return std::find_first_of(types.begin(), types.end(), any.begin(), any.end()) != types.end();
  };
  const std::string none = absl::StrCat("dpo.loss_type ", absl::StrJoin(types, ", "), " has none");
  const std::vector<std::string> smoothed = {"sigmoid",  "sigmoid_norm", "robust",
                                             "exo_pair", "aot",          "aot_unpaired"};
  if (dpo.label_smoothing() > 0 && !has(smoothed)) Warn("dpo.label_smoothing", none, warnings);
  if (dpo.has_discopop_tau() && dpo.discopop_tau() != 0.05 && !has({"discopop"})) {
    Warn("dpo.discopop_tau", "it is of dpo.loss_type discopop", warnings);
  }
  if (dpo.has_f_alpha_divergence_coef() && dpo.f_alpha_divergence_coef() != 0.5 &&
      dpo.f_divergence_type() != "alpha_divergence") {
    Warn("dpo.f_alpha_divergence_coef", "it is of dpo.f_divergence_type alpha_divergence",
         warnings);
  }
  const bool only_sft = std::all_of(types.begin(), types.end(),
                                    [](const std::string& type) { return type == "sft"; });
  if (!only_sft) return;
  if (!dpo.f_divergence_type().empty() && dpo.f_divergence_type() != "reverse_kl") {
    Warn("dpo.f_divergence_type", none, warnings);
  }
  if (dpo.has_ld_alpha()) Warn("dpo.ld_alpha", none, warnings);
}

// The types that sort do so in each micro-batch of each device.
void WarnOfNothingToSort(const JobSpec& spec, std::vector<Warning>* warnings) {
  const auto& training = spec.training();
  if (!training.has_per_device_train_batch_size() || training.per_device_train_batch_size() > 1) {
    return;
  }
  for (const std::string& type : spec.dpo().loss_type()) {
    if (type != "aot" && type != "aot_unpaired") continue;
    Say("NothingToSort", "dpo.loss_type",
        absl::StrCat("dpo.loss_type ", type, " sorts the pairs of a micro-batch, and ",
                     "training.per_device_train_batch_size 1 leaves it one, whose loss is that of "
                     "sigmoid; raise it"),
        warnings);
  }
}

void WarnOfMethods(const JobSpec& spec, std::vector<Warning>* warnings) {
  WarnOfNothingToSort(spec, warnings);
  if (spec.has_dpo()) WarnOfDpoLoss(spec.dpo(), warnings);
  const auto& cpo = spec.cpo();
  if (cpo.label_smoothing() > 0 && (cpo.loss_type() == "hinge" || cpo.loss_type() == "ipo")) {
    Warn("cpo.label_smoothing", "cpo.loss_type " + cpo.loss_type() + " has none", warnings);
  }
  if (cpo.has_simpo_gamma() && cpo.simpo_gamma() != 0.5 && cpo.loss_type() != "simpo") {
    Warn("cpo.simpo_gamma", "it is of cpo.loss_type simpo", warnings);
  }
  const auto& dpo = spec.dpo();
  if (dpo.sync_ref_model()) return;
  if (dpo.has_ref_model_mixup_alpha() && dpo.ref_model_mixup_alpha() != 0.6) {
    Warn("dpo.ref_model_mixup_alpha", "sync_ref_model is off", warnings);
  }
  if (dpo.has_ref_model_sync_steps() && dpo.ref_model_sync_steps() != 512) {
    Warn("dpo.ref_model_sync_steps", "sync_ref_model is off", warnings);
  }
}

void WarnOfData(const JobSpec& spec, std::vector<Warning>* warnings) {
  const auto& sft = spec.sft();
  if (!sft.packing_strategy().empty() && !sft.packing()) {
    Warn("sft.packing_strategy", "sft.packing is off", warnings);
  }
  if (spec.training().group_by_length() && sft.packing()) {
    Warn("training.group_by_length", "packs are of about the same length anyway", warnings);
  }
}

// Of options that have a default a value other than that was asked for.
void WarnOfOptimizer(const TrainingSpec& training, std::vector<Warning>* warnings) {
  const std::string optim = training.optim().empty() ? "adamw" : training.optim();
  if (training.sgd_momentum() > 0 && optim != "sgd") {
    Warn("training.sgd_momentum", "training.optim is " + optim, warnings);
  }
  const bool moments = optim != "sgd" && optim != "adafactor";
  const std::string has_none = "training.optim " + optim + " has none";
  if (!moments && training.has_adam_beta1() && training.adam_beta1() != 0.9) {
    Warn("training.adam_beta1", has_none, warnings);
  }
  if (!moments && training.has_adam_beta2() && training.adam_beta2() != 0.999) {
    Warn("training.adam_beta2", has_none, warnings);
  }
  const bool has_epsilon = moments && !optim.starts_with("lion");
  if (!has_epsilon && training.has_adam_epsilon() && training.adam_epsilon() != 1e-8) {
    Warn("training.adam_epsilon", has_none, warnings);
  }
}

void WarnOfSaving(const TrainingSpec& training, std::vector<Warning>* warnings) {
  if (training.has_save_total_limit() && training.save_total_limit() != 2 &&
      training.save_steps() == 0) {
    Warn("training.save_total_limit", "training.save_steps is 0, so no checkpoint is saved",
         warnings);
  }
  if (training.load_best_model_at_end() || training.early_stopping_patience() > 0) return;
  constexpr char kNothing[] =
      "neither load_best_model_at_end nor early_stopping_patience asks for the best model";
  const std::string& metric = training.metric_for_best_model();
  if (!metric.empty() && metric != "loss") {
    Warn("training.metric_for_best_model", kNothing, warnings);
  }
  if (training.early_stopping_threshold() > 0) {
    Warn("training.early_stopping_threshold", "early_stopping_patience is 0", warnings);
  }
}

void WarnOfKernels(const JobSpec& spec, std::vector<Warning>* warnings) {
  const KernelSpec& kernels = spec.kernels();
  if (spec.has_sft()) {
    if (kernels.has_fused_linear_logprob()) {
      Warn("kernels.fused_linear_logprob",
           "it is for preference methods; sft has fused_linear_cross_entropy", warnings);
    }
    const bool liger = kernels.mode() == liger::v1::KERNEL_MODE_LIGER ||
                       kernels.mode() == liger::v1::KERNEL_MODE_UNSPECIFIED;
    const bool fused_head =
        kernels.has_fused_linear_cross_entropy() ? kernels.fused_linear_cross_entropy() : liger;
    if (kernels.has_cross_entropy() && fused_head) {
      Warn("kernels.cross_entropy", "fused_linear_cross_entropy, which is on, supersedes it",
           warnings);
    }
    return;
  }
  constexpr char kSftOnly[] = "it is for sft; preference methods have fused_linear_logprob";
  if (kernels.has_cross_entropy()) Warn("kernels.cross_entropy", kSftOnly, warnings);
  if (kernels.has_fused_linear_cross_entropy()) {
    Warn("kernels.fused_linear_cross_entropy", kSftOnly, warnings);
  }
}

void AddLengthWarnings(const JobSpec& spec, int64_t steps, std::vector<Warning>* warnings) {
  WarnOfShortSchedule(spec.training(), steps, warnings);
  WarnOfNeverDue(spec, steps, warnings);
}

}  // namespace

std::vector<Warning> LengthWarnings(const JobSpec& spec, int64_t steps) {
  std::vector<Warning> warnings;
  AddLengthWarnings(spec, steps, &warnings);
  return warnings;
}

std::vector<Warning> SpecWarnings(const JobSpec& spec) {
  std::vector<Warning> warnings;
  WarnOfEvaluation(spec, &warnings);
  WarnOfTraining(spec, &warnings);
  const int64_t max_steps = spec.training().max_steps();
  if (max_steps > 0) AddLengthWarnings(spec, max_steps, &warnings);
  WarnOfMethods(spec, &warnings);
  WarnOfData(spec, &warnings);
  WarnOfOptimizer(spec.training(), &warnings);
  WarnOfSaving(spec.training(), &warnings);
  WarnOfKernels(spec, &warnings);
  return warnings;
}

}  // namespace liger
