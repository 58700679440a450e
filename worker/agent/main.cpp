// liger-worker: the agent on a GPU host.
#include <signal.h>
#include <stdio.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "common/exit_code.h"
#include "worker/agent/agent.h"
#include "worker/agent/flags.h"

namespace {

// SIGINT and SIGTERM, taken by a thread that waits for them: no handler
// interrupts anything. Blocked here, before any other thread is started.
sigset_t BlockStopSignals() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return stop;
}

}  // namespace

int main(int argc, char** argv) {
  int exit_code = 0;
  std::optional<liger::agent::Options> options = liger::agent::ParseFlags(argc, argv, &exit_code);
  if (!options) return exit_code;
  const sigset_t stop = BlockStopSignals();
  auto agent = liger::agent::Agent::Create(*std::move(options));
  if (!agent.ok()) {
    fprintf(stderr, "liger-worker: %s\n", std::string(agent.status().message()).c_str());
    return liger::StartupExitCode(agent.status());
  }
  std::thread waiter([&stop, &agent] {
    int signal_number = 0;
    sigwait(&stop, &signal_number);
    (*agent)->Shutdown();
  });
  (*agent)->Run();
  // Run() returns only after Shutdown().
  waiter.join();
  return 0;
}
