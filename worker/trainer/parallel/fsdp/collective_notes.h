#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_COLLECTIVE_NOTES_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_COLLECTIVE_NOTES_H_

#include <torch/csrc/distributed/c10d/Work.hpp>

#include <functional>
#include <memory>

namespace liger::trainer {

// Tells whoever watches over the ranks of collectives that begin and of waits for them, so that
// one that hangs can be named. Empty functions: nobody watches.
struct CollectiveNotes {
  std::function<void()> issued;
  std::function<std::shared_ptr<void>(const char* what)> waiting;

  // Before each collective.
  void Issue() const {
    if (issued) issued();
  }
  // While the result lives, this rank waits for the others.
  std::shared_ptr<void> Waiting(const char* what) const {
    return waiting ? waiting(what) : nullptr;
  }
  void Wait(c10d::Work& work, const char* what) const {
    const std::shared_ptr<void> waits = Waiting(what);
    work.wait();
  }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_COLLECTIVE_NOTES_H_
