#ifndef LIGER_CLIENT_COMMANDS_INSPECT_H_
#define LIGER_CLIENT_COMMANDS_INSPECT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "client/commands/commands.h"

namespace liger::client {

// `datasets inspect`, which is a verb below a verb.
struct InspectFlags {
  std::string file;
  std::string job_file;
  std::string model;
  std::string model_root;
  std::string dataset_root;
  std::string output_root;
  std::string trainer;
  std::vector<std::string> sets;
  int64_t row = 1;
};

void DeclareInspectFlags(CLI::App* app, InspectFlags* flags);

// Becomes `liger-trainer inspect`, with its output and exit code. Throws CliError.
ExitCode Inspect(const InspectFlags& flags, Session& session);

}  // namespace liger::client

#endif  // LIGER_CLIENT_COMMANDS_INSPECT_H_
