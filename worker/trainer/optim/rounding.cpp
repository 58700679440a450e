#include "worker/trainer/optim/rounding.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

namespace liger::trainer {

std::optional<at::Generator> StepGenerator(const at::Device& device, Rounding rounding,
                                           uint64_t seed, int64_t step) {
  if (rounding != Rounding::kStochastic) return std::nullopt;
  const uint64_t key = seed * 0x9e3779b97f4a7c15ull + uint64_t(step);
  if (device.is_cpu()) return at::detail::createCPUGenerator(key);
  at::Generator generator = at::globalContext()
                                .getAcceleratorHooksInterface(device.type())
                                .getNewGenerator(device.index());
  generator.set_current_seed(key);
  return generator;
}

void StoreRounded(at::Tensor target, const at::Tensor& value_f32,
                  const std::optional<at::Generator>& generator) {
  if (target.scalar_type() != at::kBFloat16 || !generator) {
    if (!target.is_same(value_f32)) target.copy_(value_f32);
    return;
  }
  // Adds random bits below the last kept one, then cuts: see kernels/adamw/adamw_rows.cpp.
  const at::Tensor random =
      at::randint(0, 1 << 16, value_f32.sizes(), generator, value_f32.options().dtype(at::kInt));
  const at::Tensor bits = value_f32.view(at::kInt).add(random).bitwise_and_(~0xffff);
  target.copy_(bits.view(at::kFloat));
}

}  // namespace liger::trainer
