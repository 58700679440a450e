#include "worker/trainer/loop/events.h"

#include <unistd.h>

#include <chrono>
#include <iostream>

#include "common/framing.h"

namespace liger::trainer {

bool EventFile::Emit(liger::trainer::v1::Event event) {
  absl::MutexLock lock(&mutex_);
  event.set_seq(last_seq_ + 1);
  event.set_rank(rank_);
  event.set_monotonic_ns(std::chrono::steady_clock::now().time_since_epoch().count());
  const off_t end = lseek(fd_, 0, SEEK_END);
  const absl::Status written = WriteFrame(fd_, event);
  if (written.ok()) {
    ++last_seq_;
    return true;
  }
  std::cerr << "cannot write event " << event.seq() << ": " << written.message() << std::endl;
  if (end >= 0 && ftruncate(fd_, end) != 0) std::cerr << "cannot cut the torn event" << std::endl;
  return false;
}

}  // namespace liger::trainer
