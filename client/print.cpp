#include "client/print.h"

#include <google/protobuf/util/json_util.h>

#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {

Output ParseOutput(const std::string& name) {
  if (name.empty() || name == "table") return Output::kTable;
  if (name == "json") return Output::kJson;
  if (name == "yaml") return Output::kYaml;
  if (name == "name") return Output::kName;
  throw CliError(kInvalidInput, absl::StrCat("-o ", name, ": must be table, json, yaml or name"));
}

void PrintMessage(const google::protobuf::Message& message, Output output) {
  if (output == Output::kYaml) {
    std::cout << ToYaml(message);
    return;
  }
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  std::cout << json;
}

}  // namespace liger::client
