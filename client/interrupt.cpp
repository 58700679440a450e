#include "client/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

namespace liger::client {
namespace {

std::atomic<bool> interrupted_flag{false};
int wake_fds[2] = {-1, -1};

// Only async-signal-safe calls here; the thread below does the cancelling.
void OnSignal(int) {
  interrupted_flag = true;
  const char byte = 1;
  (void)!write(wake_fds[1], &byte, 1);
}

std::thread watcher;
struct sigaction previous;

}  // namespace

InterruptGuard::InterruptGuard(grpc::ClientContext* context) {
  if (pipe2(wake_fds, O_CLOEXEC) != 0) return;
  watcher = std::thread([context] {
    char byte = 0;
    if (read(wake_fds[0], &byte, 1) == 1 && byte == 1) context->TryCancel();
  });
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, &previous);
}

InterruptGuard::~InterruptGuard() {
  if (wake_fds[1] < 0) return;
  sigaction(SIGINT, &previous, nullptr);
  const char byte = 0;
  (void)!write(wake_fds[1], &byte, 1);
  watcher.join();
  close(wake_fds[0]);
  close(wake_fds[1]);
  wake_fds[0] = wake_fds[1] = -1;
}

bool InterruptGuard::interrupted() { return interrupted_flag; }

}  // namespace liger::client
