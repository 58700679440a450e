#include "worker/trainer/checkpoint/model_card.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "common/spec/enum_names.h"

namespace liger::trainer {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using liger::v1::JobSpec;

std::string MethodName(const JobSpec& spec) {
  const FieldDescriptor* field =
      JobSpec::GetDescriptor()->FindFieldByNumber(static_cast<int>(spec.method_case()));
  return field == nullptr ? "" : field->name();
}

std::string LastPart(const std::string& name) {
  const size_t end = name.find_last_not_of('/');
  const size_t slash = name.find_last_of('/', end);
  return name.substr(slash == std::string::npos ? 0 : slash + 1,
                     end - (slash == std::string::npos ? size_t(-1) : slash));
}

std::string DataName(const liger::v1::DatasetSpec& dataset) {
  if (dataset.sources().empty()) {
    return LastPart(dataset.name().empty() ? dataset.uri() : dataset.name());
  }
  std::string names;
  for (const auto& source : dataset.sources()) {
    names += (names.empty() ? "" : " and ") + LastPart(source.uri());
  }
  return names;
}

std::string Upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

// A scalar as a job file has it.
std::string ValueText(const Message& message, const FieldDescriptor* field, int index) {
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM && !field->is_repeated()) {
    return ShortEnumName(*message.GetReflection()->GetEnum(message, field));
  }
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(message, field, index, &text);
  return text;
}

// A row of a table for each scalar that is set, and with `lists` for each list of
// them (those of training are the user's texts).
std::string SettingRows(const Message& message, bool lists) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  std::string rows;
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (field->is_repeated() && !lists) continue;
    const int size = field->is_repeated() ? message.GetReflection()->FieldSize(message, field) : 1;
    std::string values;
    for (int i = 0; i < size; ++i) {
      values += (i == 0 ? "" : ", ") + ValueText(message, field, field->is_repeated() ? i : -1);
    }
    rows += "| " + field->name() + " | " + values + " |\n";
  }
  return rows;
}

constexpr char kUseModel[] =
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    "tokenizer = AutoTokenizer.from_pretrained(\".\")\n"
    "model = AutoModelForCausalLM.from_pretrained(\".\")\n";
// Takes the base model from where adapter_config.json says.
constexpr char kUseAdapter[] =
    "from peft import AutoPeftModelForCausalLM\n"
    "from transformers import AutoTokenizer\n\n"
    "tokenizer = AutoTokenizer.from_pretrained(\".\")\n"
    "model = AutoPeftModelForCausalLM.from_pretrained(\".\")\n";

const Message* MethodMessage(const JobSpec& spec) {
  const FieldDescriptor* field =
      JobSpec::GetDescriptor()->FindFieldByNumber(static_cast<int>(spec.method_case()));
  return field == nullptr ? nullptr : &spec.GetReflection()->GetMessage(spec, field);
}

std::string ResultRows(const std::vector<std::pair<std::string, double>>& results) {
  std::string rows;
  for (const auto& [name, value] : results) {
    char number[32];
    std::snprintf(number, sizeof(number), "%.6g", value);
    rows += "| " + name + " | " + number + " |\n";
  }
  return rows;
}

}  // namespace

std::string MakeModelCard(const JobSpec& spec,
                          const std::vector<std::pair<std::string, double>>& results) {
  const std::string method = MethodName(spec);
  const std::string base =
      LastPart(spec.model().name().empty() ? spec.model().uri() : spec.model().name());
  const std::string data = DataName(spec.dataset());
  const bool adapter = spec.has_lora() && !spec.lora().merge();
  std::string card = std::string("---\nlibrary_name: ") + (adapter ? "peft" : "transformers") +
                     "\npipeline_tag: text-generation\ntags:\n- " + method +
                     (spec.has_lora() ? "\n- lora" : "") + "\n- generated_from_trainer\n---\n\n";
  card += "# " + (spec.name().empty() ? base + "-" + method : spec.name()) + "\n\n";
  card += base + ", fine-tuned with " + Upper(method) + " on " + data + " by liger service.\n";
  if (adapter) card += "This is an adapter: it needs the base model's weights.\n";
  if (spec.model().random_init()) {
    card += "Training started from random weights of the base model's shape.\n";
  }
  card += "\nThe base model's licence applies to this model.\n";
  if (!results.empty()) {
    card += "\n## Results\n\n| metric | value |\n|---|---|\n" + ResultRows(results);
  }
  card += "\n## Training\n\n| setting | value |\n|---|---|\n";
  if (const Message* settings = MethodMessage(spec)) card += SettingRows(*settings, /*lists=*/true);
  if (spec.has_lora()) card += SettingRows(spec.lora(), /*lists=*/true);
  card += SettingRows(spec.training(), false) + SettingRows(spec.kernels(), false);
  card += std::string("\n## Use\n\n```python\n") + (adapter ? kUseAdapter : kUseModel) + "```\n";
  return card;
}

}  // namespace liger::trainer
