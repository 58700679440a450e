#include "worker/trainer/loop/random_state.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <algorithm>
#include <mutex>

#include "worker/trainer/data/random.h"

namespace liger::trainer {
namespace {

std::string NameOf(const std::string& generator, int rank) {
  return rank == 0 ? generator : generator + ".rank" + std::to_string(rank);
}

std::string Bytes(const at::Tensor& state) {
  return {reinterpret_cast<const char*>(state.const_data_ptr<uint8_t>()),
          static_cast<size_t>(state.numel())};
}

at::Tensor FromBytes(const std::string& bytes) {
  at::Tensor state = at::empty({std::ssize(bytes)}, at::kByte);
  std::ranges::copy(bytes, reinterpret_cast<char*>(state.mutable_data_ptr<uint8_t>()));
  return state;
}

}  // namespace

std::map<std::string, at::Generator> Generators(at::Device device) {
  std::map<std::string, at::Generator> generators;
  generators["cpu"] = at::detail::getDefaultCPUGenerator();
  if (!device.is_cpu()) {
    const at::Generator& own = at::globalContext().defaultGenerator(device);
    generators[c10::DeviceTypeName(device.type(), /*lower_case=*/true)] = own;
  }
  return generators;
}

void SeedRank(uint64_t seed, const RankInfo& rank) {
  at::manual_seed(CounterRandom(seed, static_cast<uint64_t>(rank.rank)).Next());
}

std::vector<NamedTensor> GatherRandomState(at::Device device, Strategy& strategy) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, generator] : Generators(device)) {
    int rank = 0;
    for (const std::string& state :
         strategy.Gather(Bytes(generator.get_state()), "the random state")) {
      tensors.push_back({NameOf(name, rank++), FromBytes(state)});
    }
  }
  return tensors;
}

void RestoreRandomState(const SafetensorsFile& states, at::Device device, int rank) {
  for (const auto& [generator, target] : Generators(device)) {
    const std::string name = NameOf(generator, rank);
    if (!states.tensors().contains(name)) continue;
    at::Generator own = target;
    const std::lock_guard<std::mutex> lock(own.mutex());
    own.set_state(states.View(name).clone());
  }
}

}  // namespace liger::trainer
