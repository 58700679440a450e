#include "common/spec/field_names.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/spec/spec.h"
#include "common/spec/suggest.h"

namespace liger {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Messages inside one another below a job file; a bound, should a type hold itself.
constexpr int kMaxDepth = 4;

// Names that people bring from TRL, transformers and LLaMA-Factory, whose nearest field would be
// another one or none, and how the path of the field that has it ends.
struct ForeignName {
  const char* name;
  const char* field;             // nullptr: there is none, and `advice` says what takes its place
  const char* advice = nullptr;  // behind the path, in place of "did you mean"
};
constexpr char kOneBound[] =
    " bounds a prompt and its answer together, and truncation_mode says which end is cut";
constexpr char kEvery[] = " says after how many steps each time";
constexpr char kNotQuantised[] =
    "models are not quantised (no QLoRA): 'lora' keeps the base in 16 bits and trains little "
    "beside it, 'training.gradient_checkpointing' saves memory";
constexpr char kMetrics[] =
    "metrics go to Prometheus and metrics.jsonl, and 'liger-cli metrics JOB' prints them";
constexpr char kParallel[] =
    "'resources.count' says on how many devices, 'parallel.strategy' how (ddp, fsdp)";
constexpr char kAttention[] = "the trainer takes the fastest exact attention there is by itself";
constexpr char kByLora[] = "an adapter is trained where there is a section 'lora:'";
constexpr char kTemplate[] =
    "the chat template is the model folder's chat_template.jinja (or that of its "
    "tokenizer_config.json); put one there";
constexpr char kMixSft[] =
    "a share of the chosen answers' own loss is dpo.loss_type: [sigmoid, sft] with "
    "dpo.loss_weights";
constexpr char kNoSuchAdapter[] = "adapters are LoRA's, with 'lora.use_rslora' or 'lora.use_dora'";
constexpr char kTurnsTrained[] =
    "'sft.assistant_only_loss' trains on all of the assistant's turns, 'sft.completion_only_loss' "
    "on the answer alone, neither on the whole text";
constexpr char kWholeEvaluations[] = "evaluations keep sums alone, so nothing adds up in memory";
constexpr char kPrecision[] = " says in what: bf16_mixed, bf16_stochastic, bf16_nearest or fp32";
constexpr ForeignName kForeignNames[] = {
    {"lr", "training.learning_rate"},
    {"max_seq_length", "training.max_length"},
    {"cutoff_len", "training.max_length"},
    {"max_prompt_length", "training.max_length", kOneBound},
    {"max_completion_length", "training.max_length", kOneBound},
    {"per_device_batch_size", "training.per_device_train_batch_size"},
    {"train_batch_size", "training.per_device_train_batch_size"},
    {"eval_batch_size", "training.per_device_eval_batch_size"},
    {"epochs", "training.num_train_epochs"},
    {"num_train_steps", "training.max_steps"},
    {"total_steps", "training.max_steps"},
    {"max_train_samples", "dataset.max_samples"},
    {"pref_beta", "dpo.beta"},
    {"val_size", "dataset.eval_fraction"},
    {"optimizer", "training.optim"},
    {"metric", "training.metric_for_best_model"},
    {"patience", "training.early_stopping_patience"},
    {"warmup", "training.warmup_ratio"},
    {"eval_strategy", "training.eval_steps", kEvery},
    {"save_strategy", "training.save_steps", kEvery},
    {"torch_dtype", "training.precision"},
    {"rslora", "lora.use_rslora"},
    {"dora", "lora.use_dora"},
    {"model_name_or_path", "model.name"},
    {"output_dir", "output.uri"},
    {"lora_rank", "lora.r"},
    {"lora_target", "lora.target_modules"},
    {"fp16", "training.precision", kPrecision},
    {"evaluation_strategy", "training.eval_steps", kEvery},
    {"num_epochs", "training.num_train_epochs"},
    {"eval_dataset", "dataset.eval_uri"},
    {"adapter_name_or_path", "lora.adapter_uri"},
    {"pref_loss", "dpo.loss_type"},
    {"pref_ftx", nullptr, kMixSft},
    {"rpo_alpha", nullptr, kMixSft},
    {"kto_chosen_weight", "kto.desirable_weight"},
    {"kto_rejected_weight", "kto.undesirable_weight"},
    {"train_on_prompt", nullptr, kTurnsTrained},
    {"mask_history", nullptr, kTurnsTrained},
    {"dataset_text_field", "dataset.columns",
     " maps the format's names to those in the file ({text: content})"},
    {"chat_template", nullptr, kTemplate},
    {"chat_template_path", nullptr, kTemplate},
    {"template", nullptr, kTemplate},
    {"eval_accumulation_steps", nullptr, kWholeEvaluations},
    {"use_qalora", nullptr, kNoSuchAdapter},
    {"use_galore", nullptr, kNoSuchAdapter},
    {"load_in_4bit", nullptr, kNotQuantised},
    {"load_in_8bit", nullptr, kNotQuantised},
    {"quantization_bit", nullptr, kNotQuantised},
    {"quantization_method", nullptr, kNotQuantised},
    {"bnb_4bit_quant_type", nullptr, kNotQuantised},
    {"bnb_4bit_compute_dtype", nullptr, kNotQuantised},
    {"report_to", nullptr, kMetrics},
    {"logging_dir", nullptr, kMetrics},
    {"wandb", nullptr, kMetrics},
    {"wandb_project", nullptr, kMetrics},
    {"tensorboard", nullptr, kMetrics},
    {"deepspeed", nullptr, kParallel},
    {"fsdp", nullptr, kParallel},
    {"fsdp_config", nullptr, kParallel},
    {"ddp", nullptr, kParallel},
    {"attn_implementation", nullptr, kAttention},
    {"flash_attn", nullptr, kAttention},
    {"use_flash_attention_2", nullptr, kAttention},
    {"use_peft", nullptr, kByLora},
    {"use_lora", nullptr, kByLora},
    {"finetuning_type", nullptr, kByLora},
    {"use_liger_kernel", "kernels.mode"},
    {"enable_liger_kernel", "kernels.mode"},
};

// May `field` be written, given the members of oneofs that are set?
bool MayBeSet(const Message& message, const FieldDescriptor* field) {
  const auto* oneof = field->real_containing_oneof();
  if (oneof == nullptr) return true;
  const auto* set = message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
  return set == nullptr || set == field;
}

// Appends what `found_in` has of each section below `message`, given its field and its path; with
// `unset` of members of oneofs, too, of which another is set.
void FindBelow(
    const Message& message, const std::string& path, int depth, bool unset,
    const std::function<std::string(const FieldDescriptor& section, const std::string&)>& found_in,
    std::vector<std::string>* found) {
  if (depth > kMaxDepth) return;
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!is_message || field->is_repeated()) continue;
    if (!unset && !MayBeSet(message, field)) continue;
    const std::string below = absl::StrCat(path, path.empty() ? "" : ".", field->name());
    if (std::string one = found_in(*field, below); !one.empty()) found->push_back(std::move(one));
    FindBelow(message.GetReflection()->GetMessage(message, field), below, depth + 1, unset,
              found_in, found);
  }
}

// The paths of fields called `name` in the sections below `message`.
std::vector<std::string> Find(const Message& message, const std::string& path,
                              const std::string& name, bool unset = false) {
  std::vector<std::string> found;
  const auto field_of = [&](const FieldDescriptor& section, const std::string& below) {
    const bool has = section.message_type()->FindFieldByName(name) != nullptr;
    return has ? absl::StrCat(below, ".", name) : std::string();
  };
  FindBelow(message, path, 0, unset, field_of, &found);
  return found;
}

// Of sections' fields that `name` has joined with '_': dpo.beta of dpo_beta.
std::vector<std::string> FindJoined(const Message& message, const std::string& name, bool unset) {
  std::vector<std::string> found;
  const auto field_of = [&](const FieldDescriptor& section, const std::string& below) {
    absl::string_view rest = name;
    const bool has = absl::ConsumePrefix(&rest, section.name() + "_") &&
                     section.message_type()->FindFieldByName(std::string(rest)) != nullptr;
    return has ? absl::StrCat(below, ".", rest) : std::string();
  };
  FindBelow(message, "", 0, unset, field_of, &found);
  return found;
}

// "; did you mean 'training.learning_rate'?" of lr; "" of a name that is not known.
std::string OfForeignName(const Message& root, const std::string& name) {
  const auto* const known = std::find_if(std::begin(kForeignNames), std::end(kForeignNames),
                                         [&](const ForeignName& one) { return name == one.name; });
  if (known == std::end(kForeignNames)) return "";
  if (known->field == nullptr) return absl::StrCat("; ", known->advice);
  const std::string field = known->field;
  for (const std::string& path : Find(root, "", field.substr(field.rfind('.') + 1))) {
    if (!absl::EndsWith(path, field)) continue;
    return known->advice == nullptr ? absl::StrCat("; did you mean '", path, "'?")
                                    : absl::StrCat("; '", path, "'", known->advice);
  }
  return "";
}

// The field whose name is the section's and one near to `name`: lora_alpha of lora.alpah.
std::string NearBehind(const std::string& section, const std::string& name,
                       const Descriptor& type) {
  const std::string prefix = section + "_";
  std::vector<std::string> rests;
  for (const std::string& field : FieldNames(type)) {
    if (field.starts_with(prefix)) rests.push_back(field.substr(prefix.size()));
  }
  const std::string near = NearestName(name, rests);
  return near.empty() ? "" : prefix + near;
}

// Of a source's fields, which has no name of its own and a weight in place of a share.
std::string InSource(const std::string& name) {
  for (const char* uri : {"name", "path", "dataset", "file"}) {
    if (name == uri) return "uri";
  }
  for (const char* weight : {"ratio", "share", "probability", "proportion", "fraction"}) {
    if (name == weight) return "weight";
  }
  return "";
}

std::string OneOf(const std::vector<std::string>& paths) {
  return absl::StrCat("; did you mean '", absl::StrJoin(paths, "' or '"), "'?");
}

// More sections than this that have a name say little of which was meant (uri, digest).
constexpr size_t kTellingSections = 2;

}  // namespace

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  names.reserve(type.field_count());
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

std::string MeantField(const Message& root, const Message& message, const std::string& path,
                       const std::string& name, bool whole_path) {
  const bool of_job = message.GetDescriptor() == liger::v1::JobSpec::descriptor();
  if (of_job && (name == "trainer" || name == "method")) {
    return absl::StrCat("; a trainer is named by its own section, ",
                        absl::StrJoin(kTrainableMethods, ":, "), ": ('sft:' in place of '", name,
                        ": sft'), or by --trainer");
  }
  if (const auto below = Find(message, path, name); !below.empty()) return OneOf(below);
  if (message.GetDescriptor() == liger::v1::DatasetSource::descriptor()) {
    if (const std::string meant = InSource(name); !meant.empty()) return OneOf({meant});
  }
  if (std::string meant = OfForeignName(root, name); !meant.empty()) return meant;
  const std::string section = path.substr(path.rfind('.') + 1);
  if (!section.empty()) {
    const std::string joined = absl::StrCat(section, "_", name);  // lora_alpha of lora.alpha
    if (message.GetDescriptor()->FindFieldByName(joined) != nullptr) {
      return OneOf({absl::StrCat(path, ".", joined)});
    }
    if (std::string meant = OfForeignName(root, joined); !meant.empty()) return meant;
  }
  std::vector<std::string> elsewhere = Find(root, "", name);
  const FieldDescriptor* of_root = root.GetDescriptor()->FindFieldByName(name);
  if (of_root != nullptr && MayBeSet(root, of_root)) elsewhere.insert(elsewhere.begin(), name);
  const bool telling = !elsewhere.empty() && elsewhere.size() <= kTellingSections;
  if (telling) return OneOf(elsewhere);
  if (const auto joined = FindJoined(root, name, /*unset=*/false); !joined.empty()) {
    return OneOf(joined);
  }
  const std::string near = NearestName(name, FieldNames(*message.GetDescriptor()));
  if (!near.empty()) return OneOf({(whole_path && !path.empty() ? path + "." : "") + near});
  if (const auto behind = NearBehind(section, name, *message.GetDescriptor()); !behind.empty()) {
    return OneOf({absl::StrCat(path, ".", behind)});
  }
  if (!elsewhere.empty()) return OneOf(elsewhere);
  std::vector<std::string> others = Find(root, "", name, /*unset=*/true);
  if (others.empty()) others = FindJoined(root, name, /*unset=*/true);
  if (others.empty()) return "";
  return absl::StrCat("; this job's trainer has none, others have '", absl::StrJoin(others, "', '"),
                      "'");
}

}  // namespace liger
