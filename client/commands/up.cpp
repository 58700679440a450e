#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/process.h"
#include "common/file.h"

namespace liger::client {
namespace {

struct Options {
  std::string data_dir;
  std::string listen = kDefaultAddress;
  std::string worker_listen = "127.0.0.1:7071";
  std::string metrics_listen = "127.0.0.1:7072";
  std::string worker_metrics_listen = "127.0.0.1:7073";
  std::string models;
  std::string datasets;
  std::string outputs;
  std::string catalog;
  int cpu_slots = 1;
};

volatile sig_atomic_t stop_requested = 0;

std::string DefaultDataDir() {
  const char* home = std::getenv("HOME");
  return absl::StrCat(home == nullptr ? "." : home, "/.liger");
}

// Where things lie when the user named no folder.
void FillPaths(Options* options) {
  if (options->data_dir.empty()) options->data_dir = DefaultDataDir();
  options->data_dir = std::filesystem::absolute(options->data_dir).string();
  const auto fill = [&](std::string* path, const char* name) {
    *path = path->empty() ? absl::StrCat(options->data_dir, "/", name)
                          : std::filesystem::absolute(*path).string();
  };
  fill(&options->models, "models");
  fill(&options->datasets, "datasets");
  fill(&options->outputs, "outputs");
  for (const std::string& folder :
       {options->models, options->datasets, options->outputs, options->data_dir + "/logs",
        options->data_dir + "/coordinator", options->data_dir + "/worker"}) {
    ThrowIfError(MakeFolders(folder));
  }
}

std::vector<std::string> CoordinatorCommand(const Options& options) {
  std::vector<std::string> command = {ProgramFolder() + "/liger-coordinator",
                                      "--data-dir",
                                      options.data_dir + "/coordinator",
                                      "--listen",
                                      options.listen,
                                      "--worker-listen",
                                      options.worker_listen,
                                      "--metrics-listen",
                                      options.metrics_listen};
  if (!options.catalog.empty()) {
    command.push_back("--catalog");
    command.push_back(std::filesystem::absolute(options.catalog).string());
  }
  return command;
}

std::vector<std::string> WorkerCommand(const Options& options) {
  return {ProgramFolder() + "/liger-worker",
          "--coordinator",
          options.worker_listen,
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
}

[[noreturn]] void Died(const char* what, const ChildProcess& child) {
  std::string tail = ReadFile(child.log_file()).value_or("");
  if (tail.size() > 2000) tail = "..." + tail.substr(tail.size() - 2000);
  throw CliError(kError, absl::StrCat("the ", what, " has ended; its log (", child.log_file(),
                                      ") says:\n", tail));
}

// True once the coordinator answers and lists a ready worker.
bool IsServing(Connection& connection) {
  try {
    const auto response = connection.Call(&liger::v1::FineTuning::StubInterface::ListWorkers,
                                          liger::v1::ListWorkersRequest(), 1);
    for (const auto& worker : response.workers()) {
      if (worker.state() == "READY") return true;
    }
  } catch (const CliError&) {
    // Not up yet; the caller watches the process.
  }
  return false;
}

void PrintReady(const Options& options) {
  std::cout << "liger is up\n"
            << "  api:      " << options.listen << "\n"
            << "  metrics:  http://" << options.metrics_listen << "/metrics\n"
            << "  models:   " << options.models << "  (put Hugging Face folders here)\n"
            << "  datasets: " << options.datasets << "\n"
            << "  results:  " << options.outputs << "\n"
            << "  logs:     " << options.data_dir << "/logs\n"
            << "submit a job from another terminal:\n"
            << "  liger-cli submit --model smollm2-135m --trainer sft\n"
            << "Ctrl-C stops both.\n"
            << std::flush;
}

ExitCode Up(Options options, Session& session) {
  FillPaths(&options);
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_requested = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);

  ChildProcess coordinator(CoordinatorCommand(options), options.data_dir + "/logs/coordinator.log");
  ChildProcess worker(WorkerCommand(options), options.data_dir + "/logs/worker.log");
  Endpoint endpoint;
  endpoint.address = options.listen;
  Connection connection(endpoint);
  bool ready = false;
  while (!stop_requested) {
    if (coordinator.Poll()) Died("coordinator", coordinator);
    if (worker.Poll()) Died("worker", worker);
    if (!ready && IsServing(connection)) {
      ready = true;
      PrintReady(options);
    }
    absl::SleepFor(absl::Milliseconds(100));
  }
  std::cout << "\nstopping\n" << std::flush;
  worker.Stop(30);
  coordinator.Stop(10);
  return kOk;
}

}  // namespace

Action DeclareUp(CLI::App* app) {
  auto options = std::make_shared<Options>();
  app->add_option("--data-dir", options->data_dir, "Everything lies below it (default ~/.liger)");
  app->add_option("--listen", options->listen, "Public API")->capture_default_str();
  app->add_option("--worker-listen", options->worker_listen, "Port for workers")
      ->capture_default_str();
  app->add_option("--metrics-listen", options->metrics_listen, "Prometheus endpoint")
      ->capture_default_str();
  app->add_option("--worker-metrics-listen", options->worker_metrics_listen,
                  "Prometheus endpoint of the worker")
      ->capture_default_str();
  app->add_option("--model-root", options->models, "Folder of models (default: below --data-dir)");
  app->add_option("--dataset-root", options->datasets, "Folder of datasets");
  app->add_option("--output-root", options->outputs, "Folder of results");
  app->add_option("--catalog", options->catalog, "Catalog file instead of the built-in one");
  app->add_option("--cpu-slots", options->cpu_slots, "Jobs at a time without a GPU")
      ->capture_default_str();
  return [options](Session& session) { return Up(*options, session); };
}

}  // namespace liger::client
