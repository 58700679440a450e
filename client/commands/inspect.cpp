// datasets inspect: what training would see of a file. The client has no
// tokenizer; liger-trainer, which lies beside it, has.
#include "client/commands/inspect.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/process.h"
#include "client/terminal.h"

namespace liger::client {
namespace {

namespace fs = std::filesystem;

// The folder itself, or that name below the model root.
std::string ModelFolder(const InspectFlags& flags) {
  std::error_code error;
  if (flags.model.empty() || fs::exists(flags.model, error)) return flags.model;
  const char* home = std::getenv("HOME");
  const std::string root = flags.model_root.empty()
                               ? absl::StrCat(home == nullptr ? "." : home, "/.liger/models")
                               : flags.model_root;
  const std::string below = absl::StrCat(root, "/", flags.model);
  if (fs::exists(below, error)) return below;
  throw CliError(kInvalidInput,
                 absl::StrCat("--model ", flags.model, ": no such folder here or below ", root,
                              "; name one, or give --model-root"));
}

bool WantsColor() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) && std::getenv("NO_COLOR") == nullptr &&
         (terminal == nullptr || std::strcmp(terminal, "dumb") != 0);
}

std::vector<std::string> TrainerCommand(const InspectFlags& flags, Output output) {
  std::vector<std::string> command = {ProgramFolder() + "/liger-trainer", "inspect"};
  const auto add = [&](const char* flag, const std::string& value) {
    if (!value.empty()) command.insert(command.end(), {flag, value});
  };
  add("--spec", flags.job_file);
  add("--dataset", flags.file);
  add("--model", ModelFolder(flags));
  add("--trainer", flags.trainer);
  add("--row", absl::StrCat(flags.row));
  for (const std::string& set : flags.sets) add("--set", set);
  if (output == Output::kJson) command.push_back("--json");
  if (output == Output::kTable && WantsColor()) command.push_back("--color");
  return command;
}

}  // namespace

void DeclareInspectFlags(CLI::App* app, InspectFlags* flags) {
  app->add_option("file", flags->file, "File, folder or pattern (default: the job file's)");
  app->add_option("-f,--file", flags->job_file, "Job file to take all else from");
  app->add_option("--model", flags->model, "Hugging Face folder, or its name below --model-root");
  app->add_option("--model-root", flags->model_root, "Folder of models (default ~/.liger/models)");
  app->add_option("--trainer", flags->trainer, "sft, dpo, orpo or kto (default: the job file's)");
  app->add_option("--set", flags->sets, "Set a field: --set training.max_length=512")
      ->allow_extra_args(false);
  app->add_option("--row", flags->row, "Row to show, of those that are trained on")
      ->capture_default_str();
}

ExitCode Inspect(const InspectFlags& flags, Session& session) {
  if (session.output != Output::kTable && session.output != Output::kJson) {
    throw CliError(kInvalidInput, absl::StrCat("-o ", session.output_name,
                                               ": datasets inspect prints table or json"));
  }
  const bool has_job = !flags.job_file.empty();
  if (!has_job && (flags.file.empty() || flags.model.empty() || flags.trainer.empty())) {
    throw CliError(kInvalidInput,
                   "datasets inspect needs a file, --model and --trainer, or a job file (-f)");
  }
  const std::vector<std::string> command = TrainerCommand(flags, session.output);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::cout.flush();
  execv(arguments[0], arguments.data());
  throw CliError(kError, absl::StrCat("cannot run ", command[0], ": ", strerror(errno),
                                      "; datasets inspect needs it beside liger-cli"));
}

}  // namespace liger::client
