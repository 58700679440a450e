#ifndef LIGER_WORKER_TRAINER_SIDE_STREAM_H_
#define LIGER_WORKER_TRAINER_SIDE_STREAM_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>

#include <optional>

namespace liger::trainer {

// Streams and events of any device by PyTorch's device-independent interfaces (the program links
// no libtorch_cuda). On a CPU, whose work is done when the call returns, all of it is nothing.

// A point in a stream's work.
class StreamEvent {
 public:
  explicit StreamEvent(at::Device device);

  // After what the current stream holds now.
  void Record();
  // What follows on the current stream waits for the point last recorded; nothing without one.
  void CurrentStreamWaits() const;
  // This thread does; any may call it.
  void HostWaits() const;

 private:
  at::Device device_;
  std::optional<c10::Event> event_;
};

// A moment of the current stream of a GPU, to measure from.
class StreamMoment {
 public:
  explicit StreamMoment(at::Device device);
  // REQUIRES: the host has waited for what came after `later`.
  double SecondsTo(const StreamMoment& later) const;

 private:
  c10::Event event_;
};

// A stream for work that goes on beside the current one.
class SideStream {
 public:
  explicit SideStream(at::Device device);

  // While it lives, the stream is the current one.
  class Use {
   public:
    explicit Use(const SideStream& side) {
      if (side.stream_) guard_.emplace(*side.stream_);
    }

   private:
    std::optional<c10::StreamGuard> guard_;
  };

  // What follows on this stream waits for what the current one holds now.
  void WaitForCurrent();
  // What follows on the current stream waits for what this one holds now.
  void CurrentStreamWaits();
  // `tensor`, of another stream's memory, is read or written here: its memory is not given to
  // others before that is done.
  void Keep(const at::Tensor& tensor) const;

 private:
  std::optional<c10::Stream> stream_;  // none on a CPU
  StreamEvent event_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_SIDE_STREAM_H_
