#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/spec/spec.h"
#include "common/spec/suggest.h"

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using liger::v1::JobSpec;
using liger::v1::Violation;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A numeric field and the interval it must lie in.
struct Range {
  const char* field;
  double low;
  bool low_open;
  double high;
  bool high_open;
};

constexpr Range kRanges[] = {
    {"priority", 0, false, 0, false},
    {"dataset.max_samples", 0, false, kInfinity, true},
    {"dataset.eval_fraction", 0, false, 1, true},
    {"dataset.max_eval_samples", 0, false, kInfinity, true},
    {"dpo.beta", 0, true, kInfinity, true},
    {"dpo.label_smoothing", 0, false, 0.5, true},
    {"dpo.ld_alpha", 0, false, 1, false},
    {"dpo.f_alpha_divergence_coef", -kInfinity, true, kInfinity, true},
    {"dpo.discopop_tau", 0, true, kInfinity, true},
    {"orpo.beta", 0, true, kInfinity, true},
    {"kto.beta", 0, true, kInfinity, true},
    {"kto.desirable_weight", 0, true, kInfinity, true},
    {"kto.undesirable_weight", 0, true, kInfinity, true},
    {"training.learning_rate", 0, true, kInfinity, true},
    {"training.warmup_ratio", 0, false, 1, true},
    {"training.warmup_steps", 0, false, kInfinity, true},
    {"training.max_steps", 0, false, kInfinity, true},
    {"training.num_train_epochs", 0, true, kInfinity, true},
    {"training.per_device_train_batch_size", 1, false, kInfinity, true},
    {"training.per_device_eval_batch_size", 1, false, kInfinity, true},
    {"training.gradient_accumulation_steps", 1, false, kInfinity, true},
    {"training.max_length", 2, false, kInfinity, true},
    {"training.adam_beta1", 0, false, 1, true},
    {"training.adam_beta2", 0, false, 1, true},
    {"training.adam_epsilon", 0, true, kInfinity, true},
    {"training.weight_decay", 0, false, kInfinity, true},
    {"training.max_grad_norm", 0, false, kInfinity, true},
    {"training.gradient_checkpointing_every", 1, false, kInfinity, true},
    {"training.lr_scheduler_kwargs.min_lr", 0, false, kInfinity, true},
    {"training.lr_scheduler_kwargs.min_lr_rate", 0, false, 1, false},
    {"training.lr_scheduler_kwargs.num_cycles", 0, true, kInfinity, true},
    {"training.lr_scheduler_kwargs.lr_end", 0, false, kInfinity, true},
    {"training.lr_scheduler_kwargs.power", 0, true, kInfinity, true},
    {"training.lr_scheduler_kwargs.timescale", 1, false, kInfinity, true},
    {"training.lr_scheduler_kwargs.num_decay_steps", 0, false, kInfinity, true},
    {"training.lr_scheduler_kwargs.num_stable_steps", 0, false, kInfinity, true},
    {"training.lr_scheduler_kwargs.min_lr_ratio", 0, false, 1, false},
    {"training.logging_steps", 1, false, kInfinity, true},
    {"training.eval_steps", 0, false, kInfinity, true},
    {"training.sample_max_new_tokens", 1, false, kInfinity, true},
};

const std::vector<std::string> kDpoLosses = {"sigmoid",  "hinge",        "ipo",         "exo_pair",
                                             "nca_pair", "robust",       "bco_pair",    "sppo_hard",
                                             "aot",      "aot_unpaired", "apo_zero",    "apo_down",
                                             "discopop", "sft",          "sigmoid_norm"};
const std::vector<std::string> kDivergences = {"reverse_kl", "forward_kl", "js_divergence",
                                               "alpha_divergence"};
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
const std::vector<std::string> kRoles = {"system", "developer", "user", "assistant", "tool"};
// Every column that some format reads (worker/trainer/data/row_reader.h).
const std::vector<std::string> kColumns = {"instruction",  "input",         "output",
                                           "system",       "history",       "messages",
                                           "prompt",       "completion",    "chosen",
                                           "rejected",     "label",         "kto_tag",
                                           "text",         "tools",         "input_ids",
                                           "labels",       "prompt_ids",    "chosen_ids",
                                           "rejected_ids", "conversations", "chat_template_kwargs"};

class Checker {
 public:
  explicit Checker(const JobSpec& spec) : spec_(spec) {}

  std::vector<Violation> Run() {
    CheckIdentity();
    CheckMethod();
    if (spec_.has_dpo()) CheckDpo();
    if (spec_.has_kto()) CheckKto();
    CheckInputs();
    CheckNames();
    for (const Range& range : kRanges) CheckRange(range);
    CheckTraining();
    CheckScheduleKwargs();
    CheckDtypes();
    CheckResources();
    return std::move(violations_);
  }

 private:
  void Add(const std::string& field, const std::string& message) {
    Violation& violation = violations_.emplace_back();
    violation.set_field(field);
    violation.set_message(message);
  }

  void CheckIdentity() {
    const std::string& name = spec_.name();
    bool ok = name.size() <= 63 && (name.empty() || absl::ascii_isalnum(name.front()));
    for (char c : name) ok = ok && (absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-');
    if (!ok) {
      Add("name", absl::StrCat("'", name,
                               "' must be at most 63 lower-case letters, digits and "
                               "'-', and start with a letter or digit"));
    }
    if (spec_.labels_size() > 64) Add("labels", "has more than 64 entries; remove some");
    for (const auto& [key, value] : spec_.labels()) {
      if (key.empty() || key.size() > 63 || value.size() > 255) {
        Add(absl::StrCat("labels.", key),
            "must have a key of 1 to 63 characters and a value of at most 255");
      }
    }
  }

  static std::string Trainable() { return absl::StrJoin(kTrainableMethods, ", "); }

  void CheckMethod() {
    const std::string method = MethodName(spec_);
    if (method.empty()) {
      Add("method", absl::StrCat("is not set; name a trainer, one of ", Trainable()));
    } else if (std::find(std::begin(kTrainableMethods), std::end(kTrainableMethods), method) ==
               std::end(kTrainableMethods)) {
      Add(method, absl::StrCat("is not available in this version; use one of ", Trainable()));
    }
  }

  void CheckOneOf(const std::string& field, const std::string& value,
                  const std::vector<std::string>& known) {
    if (std::find(known.begin(), known.end(), value) != known.end()) return;
    Add(field, absl::StrCat("'", value, "' is not one of ", absl::StrJoin(known, ", ")));
  }

  // What TRL's DPOTrainer refuses too.
  void CheckDpo() {
    const auto& dpo = spec_.dpo();
    const auto has = [&](std::initializer_list<const char*> types) {
      return std::any_of(types.begin(), types.end(), [&](const char* type) {
        return std::find(dpo.loss_type().begin(), dpo.loss_type().end(), type) !=
               dpo.loss_type().end();
      });
    };
    for (const std::string& type : dpo.loss_type()) CheckOneOf("dpo.loss_type", type, kDpoLosses);
    if (!dpo.loss_weights().empty() &&
        dpo.loss_weights_size() != std::max(dpo.loss_type_size(), 1)) {
      Add("dpo.loss_weights", absl::StrCat("has ", dpo.loss_weights_size(), " weights for ",
                                           std::max(dpo.loss_type_size(), 1), " loss types"));
    }
    for (const double weight : dpo.loss_weights()) {
      if (!std::isfinite(weight) || weight < 0) {
        Add("dpo.loss_weights", absl::StrCat(weight, " is not a finite number of at least 0"));
      }
    }
    if (!dpo.f_divergence_type().empty()) {
      CheckOneOf("dpo.f_divergence_type", dpo.f_divergence_type(), kDivergences);
      if (dpo.f_divergence_type() != "reverse_kl" &&
          has({"nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
               "apo_down"})) {
        Add("dpo.f_divergence_type",
            absl::StrCat("'", dpo.f_divergence_type(), "' has no meaning for dpo.loss_type ",
                         absl::StrJoin(dpo.loss_type(), ", "), "; use reverse_kl"));
      }
    }
    if (dpo.use_weighting() && has({"aot", "aot_unpaired"})) {
      Add("dpo.use_weighting", "weights pairs, and aot compares no pairs; remove one of them");
    }
    if (dpo.has_label_smoothing() && dpo.label_smoothing() == 0 && has({"exo_pair"})) {
      Add("dpo.label_smoothing", "must be above 0 for exo_pair, such as 1e-3");
    }
  }

  void CheckKto() {
    if (!spec_.kto().loss_type().empty()) {
      CheckOneOf("kto.loss_type", spec_.kto().loss_type(), {"kto", "apo_zero_unpaired"});
    }
    const bool estimates_kl = spec_.kto().loss_type() != "apo_zero_unpaired";
    if (estimates_kl && spec_.training().has_per_device_train_batch_size() &&
        spec_.training().per_device_train_batch_size() == 1) {
      Add("training.per_device_train_batch_size",
          "= 1 leaves kto no other row's answer to estimate its KL term with; use at least 2");
    }
  }

  void CheckInputs() {
    if (spec_.model().name().empty() && spec_.model().uri().empty()) {
      Add("model", "is required: a catalog name, or the path of a Hugging Face folder");
    }
    if (spec_.dataset().eval_fraction() > 0 && !spec_.dataset().eval_uri().empty()) {
      Add("dataset.eval_fraction", "cannot be given together with dataset.eval_uri; keep one");
    }
    for (const auto& [field, uri] :
         {std::pair<std::string, std::string>{"model.uri", spec_.model().uri()},
          {"dataset.uri", spec_.dataset().uri()},
          {"dataset.eval_uri", spec_.dataset().eval_uri()},
          {"output.uri", spec_.output().uri()}}) {
      const size_t scheme = uri.find("://");
      if (scheme != std::string::npos && uri.compare(0, scheme, "file") != 0) {
        Add(field, absl::StrCat("scheme '", uri.substr(0, scheme),
                                "' is not supported; use a path or file://"));
      }
    }
  }

  void CheckNames() {
    for (const auto& [name, in_file] : spec_.dataset().columns()) {
      if (std::find(kColumns.begin(), kColumns.end(), name) == kColumns.end()) {
        Add(absl::StrCat("dataset.columns.", name),
            absl::StrCat("'", name, "' is a column of no format", DidYouMean(name, kColumns),
                         "; write the format's name first, as in prompt: question"));
      }
      if (in_file.empty()) Add(absl::StrCat("dataset.columns.", name), "names no column");
    }
    for (const auto& [in_file, role] : spec_.dataset().roles()) {
      CheckOneOf(absl::StrCat("dataset.roles.", in_file), role, kRoles);
    }
  }

  // A parameter that the schedule does not have would be silently without effect.
  void CheckScheduleKwargs() {
    const auto& training = spec_.training();
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
      Add(prefix + name, absl::StrCat("is no parameter of lr_scheduler_type ",
                                      schedule.empty() ? "linear" : schedule));
    }
    if (schedule == "cosine_with_min_lr" && kwargs.has_min_lr() == kwargs.has_min_lr_rate()) {
      Add("training.lr_scheduler_kwargs",
          "needs exactly one of min_lr and min_lr_rate for lr_scheduler_type cosine_with_min_lr");
    }
    if (schedule == "warmup_stable_decay" && !kwargs.has_num_decay_steps()) {
      Add("training.lr_scheduler_kwargs",
          "needs num_decay_steps for lr_scheduler_type " + schedule);
    }
    const double peak = training.has_learning_rate() ? training.learning_rate() : 1e-6;
    const double end = kwargs.has_lr_end() ? kwargs.lr_end() : 1e-7;
    if (schedule == "polynomial" && end >= peak) {
      Add(prefix + "lr_end", absl::StrCat(end, " is not below the learning rate, ", peak));
    }
    if (kwargs.has_min_lr() && kwargs.min_lr() > peak) {
      Add(prefix + "min_lr", absl::StrCat(kwargs.min_lr(), " is above the learning rate, ", peak));
    }
    for (const auto& [name, type] :
         {std::pair<const char*, std::string>{"warmup_type", kwargs.warmup_type()},
          {"decay_type", kwargs.decay_type()}}) {
      if (!type.empty()) CheckOneOf(prefix + name, type, kRampTypes);
    }
  }

  void CheckRange(const Range& range);

  void CheckTraining() {
    const auto& training = spec_.training();
    const std::string& schedule = training.lr_scheduler_type();
    if (!schedule.empty() &&
        std::find(kSchedulers.begin(), kSchedulers.end(), schedule) == kSchedulers.end()) {
      Add("training.lr_scheduler_type",
          absl::StrCat("'", schedule, "' is not one of ", absl::StrJoin(kSchedulers, ", "),
                       DidYouMean(schedule, kSchedulers)));
    }
    if (training.has_warmup_ratio() && training.warmup_ratio() > 0 && training.warmup_steps() > 0) {
      Add("training.warmup_ratio", "cannot be given together with warmup_steps; keep one");
    }
    if (training.warmup_steps() >= 1 &&
        training.warmup_steps() != std::floor(training.warmup_steps())) {
      Add("training.warmup_steps", absl::StrCat(training.warmup_steps(),
                                                " is neither a whole number of steps nor a share "
                                                "of them below 1"));
    }
    if (!training.truncation_mode().empty()) {
      CheckOneOf("training.truncation_mode", training.truncation_mode(),
                 {"keep_start", "keep_end"});
    }
    // transformers would ignore it.
    if (schedule == "constant" && (training.warmup_ratio() > 0 || training.warmup_steps() > 0)) {
      Add(training.warmup_steps() > 0 ? "training.warmup_steps" : "training.warmup_ratio",
          "does not go with lr_scheduler_type constant, which has no warm-up; use "
          "constant_with_warmup, or leave the warm-up out");
    }
  }

  void CheckDtypes() {
    using namespace liger::v1;  // NOLINT: enum values
    const auto& training = spec_.training();
    if (training.has_bf16() && training.precision() != PRECISION_UNSPECIFIED) {
      const bool agrees = training.bf16() == (training.precision() == PRECISION_BF16_MIXED);
      if (!agrees) Add("training.bf16", "contradicts training.precision; remove one of them");
    }
    for (const auto& [field, dtype] :
         {std::pair<const char*, DType>{"storage_dtype", training.storage_dtype()},
          {"compute_dtype", training.compute_dtype()},
          {"gradient_dtype", training.gradient_dtype()},
          {"optimizer_dtype", training.optimizer_dtype()}}) {
      if (dtype == DTYPE_FP16) {
        Add(absl::StrCat("training.", field),
            "FP16 needs loss scaling, which is not available; use BF16 or FP32");
      }
    }
  }

  void CheckResources() {
    const auto& resources = spec_.resources();
    if (resources.has_count() && resources.count() != 1) {
      Add("resources.count",
          absl::StrCat(resources.count(), " devices are not available in this version; use 1"));
    }
    if (!resources.placement_group().empty()) {
      Add("resources.placement_group", "is not available in this version; remove it");
    }
  }

  const JobSpec& spec_;
  std::vector<Violation> violations_;
};

// The field at a dotted path with its message, or null when a message on the
// way or the field itself is not set.
const FieldDescriptor* FindSetField(const Message& root, std::string_view path,
                                    const Message** owner) {
  const Message* message = &root;
  const std::vector<std::string> names = absl::StrSplit(std::string(path), '.');
  for (size_t i = 0; i < names.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(names[i]);
    if (!message->GetReflection()->HasField(*message, field)) return nullptr;
    if (i + 1 == names.size()) {
      *owner = message;
      return field;
    }
    message = &message->GetReflection()->GetMessage(*message, field);
  }
  return nullptr;
}

double NumberOf(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->GetDouble(message, field);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection->GetInt32(message, field);
    default:
      return static_cast<double>(reflection->GetInt64(message, field));
  }
}

std::string DescribeRange(const Range& range) {
  if (range.low == range.high) return absl::StrCat("be ", range.low);
  std::string text = absl::StrCat("be ", range.low_open ? "> " : ">= ", range.low);
  if (range.high != kInfinity) {
    absl::StrAppend(&text, " and ", range.high_open ? "< " : "<= ", range.high);
  }
  return text;
}

void Checker::CheckRange(const Range& range) {
  const Message* owner = nullptr;
  const FieldDescriptor* field = FindSetField(spec_, range.field, &owner);
  if (field == nullptr) return;
  const double value = NumberOf(*owner, field);
  const bool above = range.low_open ? value > range.low : value >= range.low;
  const bool below = range.high_open ? value < range.high : value <= range.high;
  if (above && below) return;  // also false for NaN
  Add(range.field, absl::StrCat(value, " is out of range; it must ", DescribeRange(range)));
}

}  // namespace

std::vector<Violation> ValidateSpec(const JobSpec& spec) { return Checker(spec).Run(); }

}  // namespace liger
