#ifndef LIGER_CLIENT_PRINT_H_
#define LIGER_CLIENT_PRINT_H_

#include <string>
#include <vector>

#include "google/protobuf/message.h"
#include "liger/v1/job.pb.h"

namespace liger::client {

// -o of every verb that prints something. A table may be "wide", too: with ids
// for names, and as wide as it gets.
enum class Output { kTable, kJson, kYaml, kName };

inline constexpr char kWide[] = "wide";

// Outputs a verb may have, as its row in commands.h lists them.
inline constexpr char kAllOutputs[] = "table, wide, json, yaml, name";
inline constexpr char kNotWide[] = "table, json, yaml, name";
inline constexpr char kNoNames[] = "table, wide, json, yaml";
inline constexpr char kTableOrName[] = "table, name";
inline constexpr char kTableJson[] = "table, wide, json";
inline constexpr char kTextOnly[] = "table";

// One of `outputs`; empty is the table. Throws CliError, naming `verb`, for
// another.
Output ParseOutput(const std::string& name, const std::string& verb, const std::string& outputs);

// A message as JSON or YAML, to stdout, with the names of proto JSON. Lists of
// the message itself are there when they are empty, too. int64 values are
// numbers in YAML and strings in JSON, as proto JSON has it.
void PrintMessage(const google::protobuf::Message& message, Output output);

// A job for a program: its name or all of it. Nothing for kTable, whose text is
// the verb's own.
void PrintForProgram(const liger::v1::Job& job, Output output);

}  // namespace liger::client

#endif  // LIGER_CLIENT_PRINT_H_
