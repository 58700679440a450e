#include "worker/trainer/side_stream.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace liger::trainer {
namespace {

c10::Stream CurrentStream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

StreamEvent::StreamEvent(at::Device device) : device_(device) {}

void StreamEvent::Record() {
  if (device_.is_cpu()) return;
  if (!event_) event_.emplace(device_.type());
  event_->record(CurrentStream(device_));
}

void StreamEvent::CurrentStreamWaits() const {
  if (event_) event_->block(CurrentStream(device_));
}

void StreamEvent::HostWaits() const {
  if (event_) event_->synchronize();
}

StreamMoment::StreamMoment(at::Device device)
    : event_(device.type(), c10::EventFlag::BACKEND_DEFAULT) {
  event_.record(CurrentStream(device));
}

double StreamMoment::SecondsTo(const StreamMoment& later) const {
  return event_.elapsedTime(later.event_) / 1000;
}

SideStream::SideStream(at::Device device) : event_(device) {
  if (device.is_cpu()) return;
  // Before the kernels that the current stream has waiting: what goes on here is short and others
  // wait for it.
  stream_ = c10::impl::VirtualGuardImpl(device.type())
                .getStreamFromGlobalPool(device, /*isHighPriority=*/true);
}

void SideStream::WaitForCurrent() {
  event_.Record();
  const Use use(*this);
  event_.CurrentStreamWaits();
}

void SideStream::CurrentStreamWaits() {
  {
    const Use use(*this);
    event_.Record();
  }
  event_.CurrentStreamWaits();
}

void SideStream::Keep(const at::Tensor& tensor) const {
  if (stream_) at::Tensor(tensor).record_stream(*stream_);
}

}  // namespace liger::trainer
