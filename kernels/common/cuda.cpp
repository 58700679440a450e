#include "kernels/common/cuda.h"

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <array>
#include <atomic>

namespace liger::kernels::cuda {
namespace {

int SmsOf(c10::Device device) {
  static std::array<std::atomic<int>, 64> known{};
  const auto index = static_cast<size_t>(device.index()) % known.size();
  int count = known[index].load(std::memory_order_relaxed);
  if (count == 0) known[index].store(count = CountSms(), std::memory_order_relaxed);
  return count;
}

}  // namespace

bool Supports(c10::Device device) {
  enum { kUnknown, kNo, kYes };
  static std::array<std::atomic<int>, 64> known{};
  const int index = device.has_index() ? device.index() : 0;
  auto& answer = known[static_cast<size_t>(index) % known.size()];
  int value = answer.load(std::memory_order_relaxed);
  if (value == kUnknown) {
    value = HasCodeFor(index) ? kYes : kNo;
    answer.store(value, std::memory_order_relaxed);
  }
  return value == kYes;
}

// The stream comes through c10's device-independent interface: this library has no link to
// libtorch_cuda, so that it loads on hosts without CUDA, too.
Scope::Scope(const at::Tensor& t)
    : guard_(t.device()),
      queue_{.stream = c10::impl::VirtualGuardImpl(t.device().type())
                           .getStream(t.device())
                           .native_handle(),
             .num_sms = SmsOf(t.device())} {}

void CheckLaunch(const char* op, Error error) {
  TORCH_CHECK(error == 0, op, ": the CUDA kernel was not launched: ", ErrorName(error));
}

}  // namespace liger::kernels::cuda
