#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/fsdp/cases.h"
#include "tests/unit/fsdp/ranks.h"
#include "worker/trainer/parallel/fsdp/sharded_parameters.h"

namespace liger::trainer {
namespace {

using namespace testing_fsdp;
using testing_ranks::Groups;
using testing_ranks::RunRanks;

// Of equal gradients, adafactor on parts is adafactor on whole parameters: a dense model's,
// experts' of three dimensions, adapters' of few columns; ranks' parts begin and end within rows.
class AdafactorTest : public testing::TestWithParam<Case> {};

// Of every parameter at a step.
std::map<std::string, at::Tensor> RandomGradients(const CausalLM& model, int step) {
  at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(step + 1));
  std::map<std::string, at::Tensor> gradients;
  for (const auto& item : model.named_parameters()) {
    at::Tensor gradient = at::empty(item.value().sizes());
    gradients[item.key()] = gradient.normal_(0, 1 + step, generator);
  }
  return gradients;
}

TEST_P(AdafactorTest, OnPartsIsThatOnWholeParameters) {
  const Case& c = GetParam();
  constexpr double kRate = 1e-2, kScale = 0.5;
  const auto whole = Model(c);
  std::vector<std::pair<std::string, at::Tensor>> leaves;
  for (const auto& item : whole->named_parameters()) leaves.emplace_back(item.key(), item.value());
  TrainableParameters parameters(leaves, {});
  const auto optimizer = OptimizerOf(c, parameters);
  for (int step = 0; step < kSteps; ++step) {
    const auto gradients = RandomGradients(*whole, step);
    std::vector<at::Tensor> grads;
    for (const auto& entry : parameters.entries()) grads.push_back(gradients.at(entry.name));
    optimizer->Step(grads, kRate, kScale);
  }
  const auto expected = optimizer->StateDict();
  std::mutex mutex;
  RunRanks(c.ranks, c.shards, [&](const Groups& groups) {
    const auto model = Model(c);
    ShardedModel sharded(*model, {.shards = groups.shards});
    ShardedParameters parts(sharded);
    const auto on_parts = OptimizerOf(c, parts);
    for (int step = 0; step < kSteps; ++step) {
      const auto gradients = RandomGradients(*whole, step);
      std::vector<at::Tensor> grads;
      for (const auto& entry : parts.entries()) {
        grads.push_back(entry.storage.numel() == 0
                            ? at::Tensor()
                            : gradients.at(entry.name).view(-1).narrow(0, entry.part->begin,
                                                                       entry.storage.numel()));
      }
      on_parts->Step(grads, kRate, kScale);
    }
    const std::lock_guard lock(mutex);
    for (const auto& entry : parts.entries()) {
      if (entry.storage.numel() == 0) continue;
      const auto own = [&](const at::Tensor& of) {
        return of.detach().reshape({-1}).narrow(0, entry.part->begin, entry.storage.numel());
      };
      const at::Tensor leaf = parameters.entries()[*parameters.IndexOf(
          whole->named_parameters()[entry.name])].storage;
      EXPECT_LT(RelativeError(entry.storage, own(leaf)), 1e-6) << entry.name;
    }
    for (const auto& [name, state] : on_parts->StateDict()) {
      if (state.sizes() != expected.at(name).sizes() || state.dim() == 0) continue;  // a part's own
      EXPECT_LT(RelativeError(state, expected.at(name)), 1e-6) << name;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AdafactorTest,
    testing::Values(Case{.name = "untied_2", .folder = kUntied, .ranks = 2, .shards = 2,
                         .optim = "adafactor"},
                    Case{.name = "mixtral_3", .folder = "mixtral_router_v5", .ranks = 3,
                         .shards = 3, .optim = "adafactor"},
                    Case{.name = "lora_4", .folder = kTied, .ranks = 4, .shards = 4, .lora = true,
                         .optim = "adafactor"}),
    [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace liger::trainer
