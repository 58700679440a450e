#ifndef LIGER_WORKER_TRAINER_LOOP_HOST_COPIES_H_
#define LIGER_WORKER_TRAINER_LOOP_HOST_COPIES_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/side_stream.h"

namespace liger::trainer {

// Copies of a run's tensors in the host's memory, as they are at one moment, which another thread
// writes while training goes on. From a GPU they are made on a stream beside the current one, into
// pinned memory. The memory is kept from one time to the next.
//
// Of the training thread, but for Await.
class HostCopies {
 public:
  // `device`: of the tensors, but for those that are on the host anyway. `copies_on_host`:
  // processes that make as many copies at once here.
  HostCopies(at::Device device, int copies_on_host)
      : device_(device), copies_on_host_(copies_on_host), side_(device), copied_(device) {}

  // On a GPU: begins to take the memory that copies of these need, on a thread of its own, since
  // the system gives pinned memory slowly (seen: 1.2 GB/s). If it does not get it, Take says so.
  void Reserve(const std::vector<at::Tensor*>& tensors);

  // Puts copies in place of the tensors, one for what is given several times. Those of the time
  // before are no longer valid. False: the host has not the memory (`why`: a sentence), and nothing
  // has changed. The environment's LIGER_CHECKPOINT_MEMORY bounds it (bytes of this process).
  bool Take(const std::vector<at::Tensor*>& tensors, std::string* why);

  // What follows on the current stream may change the tensors.
  void BeforeChange();
  // Seconds for which that held up the stream since the last call. REQUIRES: the host has waited
  // for the stream since.
  double TakeHeldUpSeconds();

  // Returns once the copies are made; any thread.
  void Await() const { copied_.HostWaits(); }

 private:
  struct Place {
    size_t block = 0;
    int64_t begin = 0;  // in bytes
  };

  // What is given, each tensor once.
  struct Distinct {
    std::vector<at::Tensor> tensors;
    std::vector<int64_t> bytes;
    std::vector<size_t> of_given;  // by place in what is given
  };
  static Distinct DistinctOf(const std::vector<at::Tensor*>& tensors);
  // Where copies of so many bytes each go, and the sizes of new blocks that they need.
  std::vector<Place> PlacesFor(const std::vector<int64_t>& bytes,
                               std::vector<int64_t>* new_blocks) const;
  bool Allocate(const std::vector<int64_t>& new_blocks, std::string* why);
  int64_t held_bytes() const;

  const at::Device device_;
  const int copies_on_host_;
  SideStream side_;
  StreamEvent copied_;
  std::vector<at::Tensor> blocks_;   // bytes
  std::vector<at::Tensor> sources_;  // until they may change
  std::optional<StreamMoment> held_from_, held_to_;
  std::future<void> reserving_;  // has blocks_ for itself
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_HOST_COPIES_H_
