// liger-trainer: trains one rank of a job, from an agent's Launch file or from
// a job file of an engineer. See --help.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>

#include "common/wrapped_help.h"
#include "worker/trainer/error.h"
#include "worker/trainer/gguf/import.h"
#include "worker/trainer/loop/code_files.h"
#include "worker/trainer/loop/commands.h"
#include "worker/trainer/loop/console.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/failure.h"
#include "worker/trainer/loop/inspect.h"
#include "worker/trainer/loop/run_task.h"
#include "worker/trainer/parallel/rank.h"
#include "worker/trainer/text/tokenize_command.h"

namespace liger::trainer {
namespace {

struct Arguments {
  SpecOptions spec;
  std::string launch_path;
  TokenizeOptions tokenize;
  bool run_tokenize = false;
  ImportGgufOptions import_gguf;
  bool run_import = false;
  InspectOptions inspect;
  std::string inspect_model, inspect_dataset;
  bool run_inspect = false;
  bool list_code = false;
};

// Descriptor in an environment variable; -1 when it is not set.
int DescriptorFromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return -1;
  int fd = -1;
  const char* end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, fd);
  if (result.ec != std::errc() || result.ptr != end || fd < 0) {
    throw ConfigError(std::string(name) + "='" + text + "' is not a file descriptor");
  }
  return fd;
}

Request ReadRequest(const Arguments& arguments) {
  const bool launched = !arguments.launch_path.empty();
  Request request = launched ? ReadLaunch(arguments.launch_path) : ReadSpec(arguments.spec);
  request.data_cache = TokenCacheOptions::FromEnvironment();
  if (launched && arguments.spec.check)
    request.launch.set_task_kind(liger::trainer::v1::TASK_KIND_CHECK);
  return request;
}

int RunJob(const Arguments& arguments) {
  const RankInfo rank = RankInfo::FromEnvironment();
  Console console(std::cout, rank.rank == 0 ? "" : "rank " + std::to_string(rank.rank) + ": ");
  std::vector<EventSink*> sinks = {&console};
  std::optional<EventFile> events;
  if (const int fd = DescriptorFromEnvironment("LIGER_EVENTS_FD"); fd >= 0) {
    events.emplace(fd, rank.rank);
    sinks.push_back(&*events);
  }
  Reporter reporter(sinks, /*leads=*/rank.rank == 0);
  StopFlag stop;
  CheckpointRequests checkpoints;
  Request request;
  try {
    request = ReadRequest(arguments);
  } catch (...) {
    const auto failure = FailureFromException(std::current_exception());
    reporter.Failed(failure);
    return ExitCodeFor(failure);
  }
  StopFlag::HandleSignals();
  Heartbeat heartbeat(reporter);
  std::optional<CommandReader> commands;
  if (const int fd = DescriptorFromEnvironment("LIGER_COMMANDS_FD"); fd >= 0) {
    commands.emplace(fd, stop, checkpoints, reporter, [](int code) { _exit(code); });
  }
  return RunTask(request, reporter, stop, &checkpoints);
}

int RunTokenizeCommand(const TokenizeOptions& options) {
  std::ios::sync_with_stdio(false);
  RunTokenize(options, std::cin, std::cout);
  return kExitOk;
}

// For the agent, which looks whether they are still the same.
int ListCode() {
  for (const std::string& file : CodeFiles()) std::cout << file << "\n";
  std::cout << "end" << std::endl;
  return kExitOk;
}

int RunInspectCommand(const Arguments& arguments) {
  InspectOptions options = arguments.inspect;
  auto& sets = options.spec.overrides;  // the user's own come last
  if (!arguments.inspect_dataset.empty()) {
    sets.insert(sets.begin(), "dataset.name=" + arguments.inspect_dataset);
  }
  if (!arguments.inspect_model.empty()) {
    sets.insert(sets.begin(), "model.name=" + arguments.inspect_model);
  }
  RunInspect(options, std::cout);
  return kExitOk;
}

void DeclareInspect(CLI::App& app, Arguments& arguments) {
  auto* inspect = app.add_subcommand("inspect", "Show what training would see of a dataset");
  inspect->add_option("--spec", arguments.inspect.spec.spec_path, "Job file (YAML or JSON)");
  inspect->add_option("--dataset", arguments.inspect_dataset, "File, folder or pattern");
  inspect->add_option("--model", arguments.inspect_model, "Hugging Face folder");
  inspect->add_option("--trainer", arguments.inspect.spec.trainer, "sft, dpo, orpo, kto or cpo");
  inspect->add_option("--set", arguments.inspect.spec.overrides,
                      "Override a field: training.max_length=512");
  inspect->add_option("--row", arguments.inspect.row, "Row to show, of those that are trained on")
      ->capture_default_str();
  inspect->add_flag("--json", arguments.inspect.json, "As JSON");
  inspect->add_flag("--color", arguments.inspect.color, "Colour the trained tokens");
  inspect->callback([&arguments] { arguments.run_inspect = true; });
}

void DeclareArguments(CLI::App& app, Arguments& arguments) {
  app.set_version_flag("--version", std::string("liger-trainer ") + LIGER_VERSION);
  auto* spec = app.add_option("--spec", arguments.spec.spec_path, "Job file (YAML or JSON)");
  app.add_option("--launch", arguments.launch_path, "Launch message of an agent (binary)")
      ->excludes(spec);
  app.add_option("--set", arguments.spec.overrides, "Override a field: training.max_steps=10")
      ->needs(spec);
  app.add_option("--output", arguments.spec.output, "Folder for the result (output.uri)")
      ->needs(spec);
  app.add_flag("--check", arguments.spec.check,
               "Validate the job's spec, model, tokenizer and data; needs no device");
  app.add_flag("--list-code", arguments.list_code,
               "Print the files of this program and of what it loads, then a line `end`");
  auto* tokenize = app.add_subcommand("tokenize", "Tokenise JSON lines from standard input");
  tokenize->add_option("--model", arguments.tokenize.model_dir, "Hugging Face folder")->required();
  tokenize->add_flag("--decode", arguments.tokenize.decode, "From ids back to text");
  tokenize->callback([&arguments] { arguments.run_tokenize = true; });
  auto* gguf = app.add_subcommand("import-gguf", "A Llama in a GGUF file as a Hugging Face folder");
  gguf->add_option("file", arguments.import_gguf.file, "FILE.gguf")->required();
  gguf->add_option("--output", arguments.import_gguf.output, "Folder to make")->required();
  gguf->add_option("--tokenizer", arguments.import_gguf.tokenizer_dir,
                   "Folder with the model's tokenizer (default: the one in the file)");
  gguf->add_option("--dtype", arguments.import_gguf.dtype, "bfloat16, float16 or float32")
      ->capture_default_str();
  gguf->callback([&arguments] { arguments.run_import = true; });
  DeclareInspect(app, arguments);
}

int Main(int argc, char** argv) {
  CLI::App app("Trains one rank of a fine-tuning job.");
  app.formatter(WrappedHelp::Make());
  Arguments arguments;
  DeclareArguments(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitInvalidInput;
  }
  if (arguments.list_code) return ListCode();
  if (arguments.run_tokenize) return RunTokenizeCommand(arguments.tokenize);
  if (arguments.run_import) {
    ImportGguf(arguments.import_gguf, std::cout);
    return kExitOk;
  }
  if (arguments.run_inspect) return RunInspectCommand(arguments);
  if (arguments.spec.spec_path.empty() && arguments.launch_path.empty()) {
    std::cerr << "one of --spec and --launch is needed; see --help" << std::endl;
    return kExitInvalidInput;
  }
  return RunJob(arguments);
}

}  // namespace
}  // namespace liger::trainer

int main(int argc, char** argv) {
  try {
    liger::trainer::CodeFiles();  // as they are now: more is loaded later
    return liger::trainer::Main(argc, argv);
  } catch (...) {
    const auto failure = liger::trainer::FailureFromException(std::current_exception());
    std::cerr << "error: " << failure.message() << std::endl;
    if (!failure.action().empty()) std::cerr << "  what to do: " << failure.action() << std::endl;
    return liger::trainer::ExitCodeFor(failure);
  }
}
