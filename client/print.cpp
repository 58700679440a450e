#include "client/print.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <iostream>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/errors.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {
namespace {

using google::protobuf::Message;

// Proto JSON leaves empty lists out, but who asks for "jobs" should find it.
std::vector<std::string> EmptyLists(const Message& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const auto* field = message.GetDescriptor()->field(i);
    if (!field->is_repeated() || field->is_map()) continue;
    if (message.GetReflection()->FieldSize(message, field) == 0) names.push_back(field->name());
  }
  return names;
}

std::string ToJson(const Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  const std::vector<std::string> empty = EmptyLists(message);
  if (empty.empty()) return json;
  const size_t open = json.find('{') + 1;
  const bool nothing_else = json.find_first_not_of(" \n", open) == json.find('}');
  const std::string lists = absl::StrJoin(empty, ",\n", [](std::string* out, const auto& name) {
    absl::StrAppend(out, " \"", name, "\": []");
  });
  return absl::StrCat("{\n", lists, nothing_else ? "\n}\n" : "," + json.substr(open));
}

std::string ToFullYaml(const Message& message) {
  const std::string rest = ToYaml(message, EnumNames::kFull);
  std::string yaml;
  for (const std::string& name : EmptyLists(message)) absl::StrAppend(&yaml, name, ": []\n");
  return yaml.empty() || rest != "{}\n" ? yaml + rest : yaml;
}

}  // namespace

Output ParseOutput(const std::string& name, const std::string& verb, const std::string& outputs) {
  static const std::map<std::string, Output> kOutputs = {{"", Output::kTable},
                                                         {"table", Output::kTable},
                                                         {kWide, Output::kTable},
                                                         {"json", Output::kJson},
                                                         {"yaml", Output::kYaml},
                                                         {"name", Output::kName}};
  const std::vector<std::string> possible = absl::StrSplit(outputs, ", ");
  const bool has = name.empty() || std::count(possible.begin(), possible.end(), name) > 0;
  if (has) return kOutputs.at(name);
  throw CliError(kInvalidInput,
                 absl::StrCat("-o ", name, ": the output of ", verb, " can be ", outputs));
}

void PrintMessage(const Message& message, Output output) {
  std::cout << (output == Output::kYaml ? ToFullYaml(message) : ToJson(message));
}

void PrintForProgram(const liger::v1::Job& job, Output output) {
  if (output == Output::kName) {
    std::cout << job.name() << "\n";
  } else if (output != Output::kTable) {
    PrintMessage(job, output);
  }
}

}  // namespace liger::client
