#ifndef LIGER_CLIENT_PRINT_H_
#define LIGER_CLIENT_PRINT_H_

#include <string>
#include <vector>

#include "google/protobuf/message.h"

namespace liger::client {

// -o of every verb that prints something.
enum class Output { kTable, kJson, kYaml, kName };

// Throws CliError for an unknown name.
Output ParseOutput(const std::string& name);

// A message as JSON (proto names, two spaces) or YAML, to stdout. int64 values
// are numbers in YAML and strings in JSON, as proto JSON has it.
void PrintMessage(const google::protobuf::Message& message, Output output);

}  // namespace liger::client

#endif  // LIGER_CLIENT_PRINT_H_
