// liger-coordinator: holds all durable state and all decisions.

#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "common/exit_code.h"
#include "common/version.h"
#include "common/wrapped_help.h"
#include "server/coordinator/coordinator.h"
#include "server/coordinator/flags.h"
#include "server/coordinator/verbs.h"

namespace {

using liger::server::Coordinator;
using liger::server::CoordinatorOptions;

// Blocked in every thread, so that main alone takes them, with sigwait.
sigset_t BlockTerminationSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

void Announce(const Coordinator& coordinator, const CoordinatorOptions& options) {
  const std::string metrics = coordinator.metrics_address();
  std::printf("liger-coordinator is serving: api %s, workers %s, metrics %s, data %s\n",
              coordinator.api_address().c_str(), coordinator.worker_address().c_str(),
              metrics.empty() ? "off" : ("http://" + metrics + "/metrics").c_str(),
              options.data_dir.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  // gRPC's own lines about a failed bind would hide the one that helps.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  if (const std::optional<int> code = liger::server::RunVerb(argc, argv)) return *code;
  CoordinatorOptions options;
  CLI::App app("The coordinator of the liger fine-tuning service", "liger-coordinator");
  app.formatter(liger::WrappedHelp::Make());
  app.set_version_flag("--version", liger::kVersion);
  app.footer(liger::server::kVerbsHelp);
  liger::server::AddFlags(&app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : liger::kExitInvalidInput;  // prints help or what is wrong
  }

  const sigset_t signals = BlockTerminationSignals();
  absl::StatusOr<std::unique_ptr<Coordinator>> coordinator = Coordinator::Start(options);
  if (!coordinator.ok()) {
    std::fprintf(stderr, "liger-coordinator: %s\n",
                 std::string(coordinator.status().message()).c_str());
    return liger::StartupExitCode(coordinator.status());
  }
  Announce(**coordinator, options);

  int received = 0;
  sigwait(&signals, &received);
  std::printf("liger-coordinator: %s, shutting down\n", strsignal(received));
  std::fflush(stdout);
  (*coordinator)->Shutdown();
  return 0;
}
