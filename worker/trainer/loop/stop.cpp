#include "worker/trainer/loop/stop.h"

#include <csignal>

#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

volatile std::sig_atomic_t g_signal = 0;
std::atomic<bool> g_sigterm_pauses{false};

void OnSignal(int signal) {
  g_signal = signal;
  std::signal(signal, SIG_DFL);
}

}  // namespace

bool StopFlag::Signalled() {
  return g_signal != 0 && !(g_signal == SIGTERM && g_sigterm_pauses.load());
}

void StopFlag::TakeSigtermAsPause(bool on) { g_sigterm_pauses = on; }

bool StopFlag::Terminated() { return g_signal == SIGTERM; }

void StopFlag::Request(const std::string& reason) {
  absl::MutexLock lock(&mutex_);
  if (!requested_.load()) reason_ = reason;
  requested_.store(true, std::memory_order_release);
}

void StopFlag::Check() const {
  Tick();
  if (!requested()) return;
  absl::MutexLock lock(&mutex_);
  throw StopRequested(reason_.empty() ? "signal " + std::to_string(g_signal) : reason_);
}

void StopFlag::HandleSignals() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
}

}  // namespace liger::trainer
