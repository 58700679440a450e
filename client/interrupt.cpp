#include "client/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include "client/errors.h"

namespace liger::client {
namespace {

constexpr char kSignal = 1;
constexpr char kEnd = 0;
int wake_fds[2] = {-1, -1};

// Only async-signal-safe calls here; the listener does the cancelling.
void OnSignal(int) { (void)!write(wake_fds[1], &kSignal, 1); }

}  // namespace

InterruptGuard::InterruptGuard() {
  if (pipe2(wake_fds, O_CLOEXEC) != 0) throw CliError(kError, "cannot make a pipe");
  listener_ = std::thread([this] { Listen(); });
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, &previous_);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &previous_, nullptr);
  (void)!write(wake_fds[1], &kEnd, 1);
  listener_.join();
  close(wake_fds[0]);
  close(wake_fds[1]);
}

void InterruptGuard::Listen() {
  char byte = kEnd;
  while (read(wake_fds[0], &byte, 1) == 1 && byte == kSignal) {
    absl::MutexLock lock(&mutex_);
    interrupted_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
}

void InterruptGuard::Attach(grpc::ClientContext* context) {
  absl::MutexLock lock(&mutex_);
  context_ = context;
  if (interrupted_) context_->TryCancel();
}

void InterruptGuard::Detach() {
  absl::MutexLock lock(&mutex_);
  context_ = nullptr;
}

bool InterruptGuard::interrupted() const {
  absl::MutexLock lock(&mutex_);
  return interrupted_;
}

void InterruptGuard::Sleep(absl::Duration duration) const {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&interrupted_), duration);
}

}  // namespace liger::client
