// up: a coordinator and a worker as children of this process.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/process.h"
#include "client/starter_files.h"
#include "common/file.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

namespace liger::client {
namespace {

namespace fs = std::filesystem;

struct UpOptions {
  std::string data_dir;
  std::string listen = kDefaultAddress;
  std::string worker_listen = "127.0.0.1:7071";
  std::string metrics_listen = "127.0.0.1:7072";
  std::string worker_metrics_listen = "127.0.0.1:7073";
  std::string models;
  std::string datasets;
  std::string outputs;
  std::string catalog;
  std::vector<std::string> allow_paths;
  int cpu_slots = 1;
};

// Longer than the worker of an `up` that was killed takes to end.
constexpr absl::Duration kOldWorker = absl::Seconds(40);

volatile sig_atomic_t stop_requested = 0;

// Addresses that the coordinator has bound, with the ports it was given for 0.
struct Addresses {
  std::string api, worker, metrics;
};

std::string Home() {
  const char* home = std::getenv("HOME");
  return home == nullptr ? "." : home;
}

// Where things lie when the user named no folder.
void FillPaths(UpOptions* options) {
  if (options->data_dir.empty()) options->data_dir = Home() + "/.liger";
  options->data_dir = fs::absolute(options->data_dir).string();
  const bool own_datasets = options->datasets.empty();
  const auto fill = [&](std::string* path, const char* name) {
    *path =
        path->empty() ? absl::StrCat(options->data_dir, "/", name) : fs::absolute(*path).string();
  };
  const bool own_models = options->models.empty();
  fill(&options->models, "models");
  fill(&options->datasets, "datasets");
  fill(&options->outputs, "outputs");
  std::error_code error;
  for (const auto& [own, flag, folder] :
       {std::tuple(own_models, "--model-root", options->models),
        {own_datasets, "--dataset-root", options->datasets}}) {
    if (own || fs::exists(folder, error)) continue;
    std::cerr << "note: " << flag << ": " << folder << " did not exist; it is made, and empty\n";
  }
  for (const std::string& folder :
       {options->models, options->datasets, options->outputs, options->data_dir + "/logs",
        options->data_dir + "/coordinator", options->data_dir + "/worker"}) {
    ThrowIfError(MakeFolders(folder));
  }
  if (own_datasets) CopySampleDatasets(options->datasets);
  // Not the home folder: whoever reaches the port could have its files trained on.
  const fs::path here = fs::current_path(error);
  if (options->allow_paths.empty() && !error && here.has_relative_path()) {
    options->allow_paths = {here.string()};
  }
}

std::vector<std::string> CoordinatorCommand(const UpOptions& options,
                                            const std::string& ports_file) {
  std::vector<std::string> command = {ProgramFolder() + "/liger-coordinator",
                                      "--data-dir",
                                      options.data_dir + "/coordinator",
                                      "--listen",
                                      options.listen,
                                      "--worker-listen",
                                      options.worker_listen,
                                      "--metrics-listen",
                                      options.metrics_listen,
                                      "--ports-file",
                                      ports_file};
  if (!options.catalog.empty()) {
    command.insert(command.end(), {"--catalog", fs::absolute(options.catalog).string()});
  }
  return command;
}

std::vector<std::string> WorkerCommand(const UpOptions& options, const std::string& coordinator) {
  std::vector<std::string> command = {ProgramFolder() + "/liger-worker",
                                      "--coordinator",
                                      coordinator,
                                      "--data-dir",
                                      options.data_dir + "/worker",
                                      "--model-root",
                                      options.models,
                                      "--dataset-root",
                                      options.datasets,
                                      "--output-root",
                                      options.outputs,
                                      "--metrics-listen",
                                      options.worker_metrics_listen,
                                      "--cpu-slots",
                                      absl::StrCat(options.cpu_slots)};
  for (const std::string& path : options.allow_paths) {
    command.insert(command.end(), {"--allow-path", fs::absolute(path).string()});
  }
  return command;
}

// Fails with the child's own words, and its exit code where that says more.
void ThrowIfDead(const char* what, ChildProcess& child) {
  const std::optional<int> status = child.Poll();
  if (!status) return;
  if (WIFSIGNALED(*status)) {
    throw CliError(kError, absl::StrCat("the ", what, " was ended by signal ", WTERMSIG(*status),
                                        " (", strsignal(WTERMSIG(*status)), "); its log is ",
                                        child.log_file(), "; start again to go on"));
  }
  std::string tail = child.Log();
  if (tail.size() > 2000) tail = "..." + tail.substr(tail.size() - 2000);
  throw CliError(WEXITSTATUS(*status) == kInvalidInput ? kInvalidInput : kError,
                 absl::StrCat("the ", what, " has ended; its log (", child.log_file(), ") says:\n",
                              absl::StripTrailingAsciiWhitespace(tail)));
}

// Ctrl-C or SIGTERM ends the wait early; `ready` is asked ten times a second.
template <typename Ready>
bool WaitUntil(Ready ready) {
  while (!stop_requested) {
    if (ready()) return true;
    absl::SleepFor(absl::Milliseconds(100));
  }
  return false;
}

// What the coordinator writes once it has bound its ports: proof that whoever
// answers there is this child, and not another that had the port before.
std::optional<Addresses> ReadAddresses(const std::string& ports_file) {
  const auto json = ReadFile(ports_file);
  google::protobuf::Struct ports;
  if (!json.ok() || !google::protobuf::util::JsonStringToMessage(*json, &ports).ok()) {
    return std::nullopt;
  }
  const auto text = [&](const char* key) { return ports.fields().at(key).string_value(); };
  return Addresses{text("api"), text("worker"), text("metrics")};
}

// Our worker, once it has said hello to this coordinator.
std::optional<liger::v1::Worker> WorkerThatCame(Connection& connection,
                                                const std::string& worker_dir) {
  const std::string id(
      absl::StripAsciiWhitespace(ReadFile(worker_dir + "/worker_id").value_or("")));
  try {
    const auto response = connection.Call(&liger::v1::FineTuning::StubInterface::ListWorkers,
                                          liger::v1::ListWorkersRequest(), 10);
    for (const auto& worker : response.workers()) {
      // Its last life's state may be in the store; a heartbeat is of this one's.
      const bool there = worker.state() == "READY" || worker.state() == "UNFIT";
      if (worker.worker_id() == id && there && worker.has_last_heartbeat_time()) return worker;
    }
  } catch (const CliError&) {
    // The coordinator is in trouble; the caller watches the process.
  }
  return std::nullopt;
}

void PrintReady(const UpOptions& options, const Addresses& addresses,
                const liger::v1::Worker& worker) {
  if (!worker.unfit().empty()) {
    std::cerr << "warning: no job runs until this is mended: " << worker.unfit() << "\n";
  }
  std::cout << "liger is up\n"
            << "  api:      " << addresses.api << "\n"
            << "  metrics:  http://" << addresses.metrics << "/metrics\n"
            << "  models:   " << options.models << "\n"
            << "  datasets: " << options.datasets << "\n"
            << "  results:  " << options.outputs << "\n"
            << "  logs:     " << options.data_dir << "/logs\n"
            << FirstSteps(options.models, options.datasets, addresses.api) << "Ctrl-C stops both.\n"
            << std::flush;
}

// Of an `up` that was killed, whose number is no process any more.
void RemoveOldPortsFiles(const std::string& data_dir) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(data_dir, error)) {
    const std::string name = entry.path().filename().string();
    int pid = 0;
    if (!name.starts_with("ports.") || !name.ends_with(".json") ||
        !absl::SimpleAtoi(name.substr(6, name.size() - 11), &pid)) {
      continue;
    }
    if (kill(pid, 0) != 0 && errno == ESRCH) unlink(entry.path().c_str());
  }
}

// That it ended because the worker of an `up` that was killed still has the folder: it
// ends, too, once it has given up shipping what the coordinator of that took no more.
bool WaitsForOldWorker(ChildProcess& worker) {
  return worker.Poll().has_value() &&
         absl::StrContains(worker.Log(), "is in use by another liger-worker");
}

// Runs both until it is told to stop.
void Serve(const UpOptions& options) {
  const std::string ports_file = absl::StrCat(options.data_dir, "/ports.", getpid(), ".json");
  absl::Cleanup remove_ports_file = [&] { unlink(ports_file.c_str()); };
  unlink(ports_file.c_str());
  RemoveOldPortsFiles(options.data_dir);
  ChildProcess coordinator(CoordinatorCommand(options, ports_file),
                           options.data_dir + "/logs/coordinator.log");
  std::optional<Addresses> addresses;
  if (!WaitUntil([&] {
        ThrowIfDead("coordinator", coordinator);
        return (addresses = ReadAddresses(ports_file)).has_value();
      })) {
    return;
  }
  const std::vector<std::string> worker_command = WorkerCommand(options, addresses->worker);
  const std::string worker_log = options.data_dir + "/logs/worker.log";
  std::optional<ChildProcess> worker(std::in_place, worker_command, worker_log);
  const absl::Time patience = absl::Now() + kOldWorker;
  Connection connection({.address = addresses->api});
  std::optional<liger::v1::Worker> came;
  const auto ready = [&] {
    came = WorkerThatCame(connection, options.data_dir + "/worker");
    ThrowIfDead("coordinator", coordinator);
    if (WaitsForOldWorker(*worker) && absl::Now() < patience) {
      absl::SleepFor(absl::Milliseconds(500));
      worker.emplace(worker_command, worker_log);
      return false;
    }
    ThrowIfDead("worker", *worker);
    return came.has_value();
  };
  if (WaitUntil(ready)) PrintReady(options, *addresses, *came);
  WaitUntil([&] {
    ThrowIfDead("coordinator", coordinator);
    ThrowIfDead("worker", *worker);
    return false;
  });
  std::cout << "\nstopping\n" << std::flush;
  worker->Stop(30);
  coordinator.Stop(10);
}

ExitCode Up(UpOptions options) {
  FillPaths(&options);
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_requested = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  Serve(options);
  return kOk;
}

}  // namespace

Action DeclareUp(CLI::App* app) {
  auto options = std::make_shared<UpOptions>();
  app->add_option("--data-dir", options->data_dir, "Everything lies below it (default ~/.liger)");
  app->add_option("--listen", options->listen, "Public API; port 0: a free one")
      ->capture_default_str();
  app->add_option("--worker-listen", options->worker_listen, "Port for workers")
      ->capture_default_str();
  app->add_option("--metrics-listen", options->metrics_listen, "Prometheus endpoint")
      ->capture_default_str();
  app->add_option("--worker-metrics-listen", options->worker_metrics_listen,
                  "Prometheus endpoint of the worker")
      ->capture_default_str();
  app->add_option("--model-root", options->models, "Folder of models (default: below --data-dir)");
  app->add_option("--dataset-root", options->datasets,
                  "Folder of datasets (default: below --data-dir, with the sample datasets)");
  app->add_option("--output-root", options->outputs, "Folder of results");
  app->add_option("--allow-path", options->allow_paths,
                  "Jobs may name models and datasets below this folder by path, too; may be given "
                  "several times (default: the current folder)")
      ->type_name("FOLDER")
      ->allow_extra_args(false)
      ->check(CLI::ExistingDirectory);
  app->add_option("--catalog", options->catalog, "Catalog file instead of the built-in one")
      ->check(CLI::ExistingFile);
  app->add_option("--cpu-slots", options->cpu_slots, "Jobs at a time without a GPU")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  return [options](Session&) { return Up(*options); };
}

}  // namespace liger::client
