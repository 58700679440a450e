#ifndef LIGER_CLIENT_COMMANDS_COMMANDS_H_
#define LIGER_CLIENT_COMMANDS_COMMANDS_H_

#include <functional>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "client/connection.h"
#include "client/exit_code.h"
#include "client/print.h"

namespace liger::client {

// What every verb gets: the global flags, and the connection made on first use
// (so that `version` and `init` need no server).
class Session {
 public:
  Endpoint flags;
  std::string context;
  // As typed after -o, and what it means for the verb.
  std::string output_name;
  Output output = Output::kTable;

  Connection& connection();

  // Puts the workers' names into what a table shows, unless it is -o wide.
  void NameWorkers(google::protobuf::Message* message);
  // Columns that a table may take, 0: as many as it likes (-o wide, a pipe).
  int columns() const;

 private:
  std::unique_ptr<Connection> connection_;
};

using Action = std::function<ExitCode(Session&)>;

// Declares a verb on `app` and returns what it does; its options live in the
// closure.
using Declare = Action (*)(CLI::App* app);

struct Verb {
  const char* name;
  const char* help;
  Declare declare;
  const char* outputs;  // values of -o
};

// A number above 0.
CLI::Validator Positive();
// A whole number, 0 or above.
CLI::Validator WholeNumber();
// Of a flag that would otherwise seem not to be given.
CLI::Validator NotEmpty();

Action DeclareUp(CLI::App* app);
Action DeclareInit(CLI::App* app);
Action DeclareSubmit(CLI::App* app);
Action DeclareGet(CLI::App* app);
Action DeclareList(CLI::App* app);
Action DeclareWatch(CLI::App* app);
Action DeclareLogs(CLI::App* app);
Action DeclareEvents(CLI::App* app);
Action DeclareCancel(CLI::App* app);
Action DeclarePause(CLI::App* app);
Action DeclareResume(CLI::App* app);
Action DeclareDelete(CLI::App* app);
Action DeclareModels(CLI::App* app);
Action DeclareDatasets(CLI::App* app);
Action DeclareWorkers(CLI::App* app);
Action DeclareArtifacts(CLI::App* app);
Action DeclareMetrics(CLI::App* app);
Action DeclareExperiment(CLI::App* app);
Action DeclareCompare(CLI::App* app);
Action DeclareVersion(CLI::App* app);
Action DeclareCompletion(CLI::App* app);

inline constexpr Verb kVerbs[] = {
    {"up", "Start a coordinator and a worker on this machine, in the foreground", DeclareUp,
     kTextOnly},
    {"init", "Write a commented job file", DeclareInit, kTextOnly},
    {"submit", "Submit a job", DeclareSubmit, kNotWide},
    {"get", "Show a job: its state, cause and what to do next", DeclareGet, kAllOutputs},
    {"list", "List jobs, newest first", DeclareList, kAllOutputs},
    {"watch", "Follow a job until it ends", DeclareWatch, kNotWide},
    {"logs", "Print a job's log", DeclareLogs, kTextOnly},
    {"events", "List what happened to a job", DeclareEvents, kNoNames},
    {"cancel", "Cancel a job", DeclareCancel, kNotWide},
    {"pause", "Pause a job: it saves a checkpoint and frees its devices", DeclarePause, kNotWide},
    {"resume", "Let a paused job go on from its checkpoint", DeclareResume, kNotWide},
    {"delete", "Delete a finished job (its output stays unless asked)", DeclareDelete,
     kTableOrName},
    {"models", "List the catalog's models and which workers have them", DeclareModels, kAllOutputs},
    {"datasets", "List the catalog's datasets, or inspect one", DeclareDatasets, kAllOutputs},
    {"workers", "List workers and their devices", DeclareWorkers, kAllOutputs},
    {"artifacts", "List what jobs have produced", DeclareArtifacts, kAllOutputs},
    {"metrics", "Print a job's logged steps", DeclareMetrics, kNoNames},
    {"experiment", "Run jobs over a grid with and without the kernels, and report",
     DeclareExperiment, kAllOutputs},
    {"compare", "Report two jobs side by side", DeclareCompare, kTableJson},
    {"version", "Print the version", DeclareVersion, kNotWide},
    {"completion", "Print a completion script for bash, zsh or fish", DeclareCompletion, kTextOnly},
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_COMMANDS_COMMANDS_H_
