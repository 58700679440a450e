#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spec/checks.h"
#include "common/spec/spec.h"

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;

// Far beyond any run, and sums and products of such numbers fit 64 bits.
constexpr double kMostSteps = 1e15, kMostEpochs = 1e9;

constexpr Checks::Range kRanges[] = {
    {"training.learning_rate", 0, true, Checks::kInfinity, true},
    {"training.warmup_ratio", 0, false, 1, true},
    {"training.warmup_steps", 0, false, kMostSteps, false},
    {"training.max_steps", 0, false, kMostSteps, false},
    {"training.num_train_epochs", 0, true, kMostEpochs, false},
    {"training.per_device_train_batch_size", 1, false, Checks::kInfinity, true},
    {"training.per_device_eval_batch_size", 1, false, Checks::kInfinity, true},
    {"training.gradient_accumulation_steps", 1, false, Checks::kInfinity, true},
    {"training.max_length", 2, false, Checks::kInfinity, true},
    {"training.adam_beta1", 0, false, 1, true},
    {"training.adam_beta2", 0, false, 1, true},
    {"training.adam_epsilon", 0, true, Checks::kInfinity, true},
    {"training.weight_decay", 0, false, Checks::kInfinity, true},
    {"training.max_grad_norm", 0, false, Checks::kInfinity, true},
    {"training.gradient_checkpointing_every", 1, false, Checks::kInfinity, true},
    {"training.lr_scheduler_kwargs.min_lr", 0, false, Checks::kInfinity, true},
    {"training.lr_scheduler_kwargs.min_lr_rate", 0, false, 1, false},
    {"training.lr_scheduler_kwargs.num_cycles", 0, true, Checks::kInfinity, true},
    {"training.lr_scheduler_kwargs.lr_end", 0, false, Checks::kInfinity, true},
    {"training.lr_scheduler_kwargs.power", 0, true, Checks::kInfinity, true},
    {"training.lr_scheduler_kwargs.timescale", 1, false, kMostSteps, false},
    {"training.lr_scheduler_kwargs.num_decay_steps", 0, false, kMostSteps, false},
    {"training.lr_scheduler_kwargs.num_stable_steps", 0, false, kMostSteps, false},
    {"training.lr_scheduler_kwargs.min_lr_ratio", 0, false, 1, false},
    {"training.logging_steps", 1, false, Checks::kInfinity, true},
    {"training.eval_steps", 0, false, Checks::kInfinity, true},
    {"training.sample_max_new_tokens", 1, false, Checks::kInfinity, true},
};

const std::vector<std::string> kSchedulers = {
    "linear",       "cosine",   "cosine_with_min_lr",   "polynomial",
    "inverse_sqrt", "constant", "constant_with_warmup", "warmup_stable_decay"};
// Parameters by the schedules that have them.
const std::map<std::string, std::vector<std::string>> kSchedulerKwargs = {
    {"cosine", {"num_cycles"}},
    {"cosine_with_min_lr", {"min_lr", "min_lr_rate", "num_cycles"}},
    {"polynomial", {"lr_end", "power"}},
    {"inverse_sqrt", {"timescale"}},
    {"warmup_stable_decay",
     {"num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio",
      "num_cycles"}}};
const std::vector<std::string> kRampTypes = {"linear", "cosine", "1-sqrt"};

void CheckSteps(Checks& checks) {
  const auto& training = checks.spec().training();
  const std::string& schedule = training.lr_scheduler_type();
  if (!schedule.empty()) checks.OneOf("training.lr_scheduler_type", schedule, kSchedulers);
  if (training.has_warmup_ratio() && training.warmup_ratio() > 0 && training.warmup_steps() > 0) {
    checks.Add("training.warmup_ratio", "cannot be given together with warmup_steps; keep one");
  }
  if (training.warmup_steps() >= 1 &&
      training.warmup_steps() != std::floor(training.warmup_steps())) {
    checks.Add("training.warmup_steps",
               absl::StrCat(training.warmup_steps(),
                            " is neither a whole number of steps nor a share "
                            "of them below 1"));
  }
  if (!training.truncation_mode().empty()) {
    checks.OneOf("training.truncation_mode", training.truncation_mode(),
                 {"keep_start", "keep_end"});
  }
  // transformers would ignore it.
  if (schedule == "constant" && (training.warmup_ratio() > 0 || training.warmup_steps() > 0)) {
    checks.Add(training.warmup_steps() > 0 ? "training.warmup_steps" : "training.warmup_ratio",
               "does not go with lr_scheduler_type constant, which has no warm-up; use "
               "constant_with_warmup, or leave the warm-up out");
  }
}

// A parameter that the schedule does not have would be silently without effect.
void CheckScheduleKwargs(Checks& checks) {
  const auto& training = checks.spec().training();
  const auto& kwargs = training.lr_scheduler_kwargs();
  const std::string& schedule = training.lr_scheduler_type();
  std::vector<const FieldDescriptor*> given;
  kwargs.GetReflection()->ListFields(kwargs, &given);
  const auto known = kSchedulerKwargs.find(schedule);
  const std::string prefix = "training.lr_scheduler_kwargs.";
  for (const FieldDescriptor* field : given) {
    const std::string name(field->name());
    if (known != kSchedulerKwargs.end() &&
        std::find(known->second.begin(), known->second.end(), name) != known->second.end()) {
      continue;
    }
    checks.Add(prefix + name, absl::StrCat("is no parameter of lr_scheduler_type ",
                                           schedule.empty() ? "linear" : schedule));
  }
  if (schedule == "cosine_with_min_lr" && kwargs.has_min_lr() == kwargs.has_min_lr_rate()) {
    checks.Add(
        "training.lr_scheduler_kwargs",
        "needs exactly one of min_lr and min_lr_rate for lr_scheduler_type cosine_with_min_lr");
  }
  if (schedule == "warmup_stable_decay" && !kwargs.has_num_decay_steps()) {
    checks.Add("training.lr_scheduler_kwargs",
               "needs num_decay_steps for lr_scheduler_type " + schedule);
  }
  const double peak =
      training.has_learning_rate() ? training.learning_rate() : DefaultLearningRate(checks.spec());
  const double end = kwargs.has_lr_end() ? kwargs.lr_end() : 1e-7;
  if (schedule == "polynomial" && end >= peak) {
    checks.Add(prefix + "lr_end", absl::StrCat(end, " is not below the learning rate, ", peak));
  }
  if (kwargs.has_min_lr() && kwargs.min_lr() > peak) {
    checks.Add(prefix + "min_lr",
               absl::StrCat(kwargs.min_lr(), " is above the learning rate, ", peak));
  }
  for (const auto& [name, type] :
       {std::pair<const char*, std::string>{"warmup_type", kwargs.warmup_type()},
        {"decay_type", kwargs.decay_type()}}) {
    if (!type.empty()) checks.OneOf(prefix + name, type, kRampTypes);
  }
}

// They stand in the spec twice, and their answers in the job's status.
void CheckSamplePrompts(Checks& checks) {
  constexpr int kMostPrompts = 64;
  constexpr size_t kMostBytes = 16 << 10;
  const auto& prompts = checks.spec().training().sample_prompts();
  if (prompts.size() > kMostPrompts) {
    checks.Add("training.sample_prompts",
               absl::StrCat("has ", prompts.size(), " prompts; at most ", kMostPrompts));
  }
  for (int i = 0; i < prompts.size(); ++i) {
    if (prompts[i].size() <= kMostBytes) continue;
    checks.Add(absl::StrCat("training.sample_prompts[", i, "]"),
               absl::StrCat("has ", prompts[i].size(), " bytes; at most ", kMostBytes));
  }
}

void CheckDtypes(Checks& checks) {
  using namespace liger::v1;  // NOLINT: enum values
  const auto& training = checks.spec().training();
  if (training.has_bf16() && training.precision() != PRECISION_UNSPECIFIED) {
    const bool agrees = training.bf16() == (training.precision() == PRECISION_BF16_MIXED);
    if (!agrees) checks.Add("training.bf16", "contradicts training.precision; remove one of them");
  }
  for (const auto& [field, dtype] :
       {std::pair<const char*, DType>{"storage_dtype", training.storage_dtype()},
        {"compute_dtype", training.compute_dtype()},
        {"gradient_dtype", training.gradient_dtype()},
        {"optimizer_dtype", training.optimizer_dtype()}}) {
    if (dtype == DTYPE_FP16) {
      checks.Add(absl::StrCat("training.", field),
                 "FP16 needs loss scaling, which is not available; use BF16 or FP32");
    }
  }
}

}  // namespace

void CheckTraining(Checks& checks) {
  checks.InRanges(kRanges);
  CheckSteps(checks);
  CheckScheduleKwargs(checks);
  CheckDtypes(checks);
  CheckSamplePrompts(checks);
  const auto& dataset = checks.spec().dataset();
  if (checks.spec().training().group_by_length() && dataset.has_shuffle() && !dataset.shuffle()) {
    checks.Add("training.group_by_length",
               "orders rows by length, and dataset.shuffle: false keeps the files' order; remove "
               "one of them");
  }
}

}  // namespace liger
