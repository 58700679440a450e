#include "worker/trainer/parallel/fsdp/sharded_parameters.h"

#include <ATen/ATen.h>

namespace liger::trainer {
namespace {

std::vector<TrainableParameters::Entry> Entries(const ShardedModel& model) {
  std::vector<TrainableParameters::Entry> entries;
  for (const auto& unit : model.units()) {
    for (const auto& part : unit->parts) {
      if (!part->trained()) continue;
      for (size_t i = 0; i < part->leaves().size(); ++i) {
        const FlatLayout::Item& item = part->layout().items()[i];
        const at::Tensor values = part->SliceOf(i, part->shard());
        const int64_t begin = part->layout().SliceOf(i, part->rank()).begin;
        entries.push_back({.name = item.name,
                           .storage = values,
                           .compute = values,
                           .decay = WeightDecayApplies(item.name, part->leaves()[i]),
                           .part = TrainableParameters::Part{item.shape, begin}});
      }
    }
  }
  return entries;
}

}  // namespace

ShardedParameters::ShardedParameters(ShardedModel& model)
    : TrainableParameters(Entries(model)), model_(model) {}

std::optional<GradientSum> ShardedParameters::DirectGradient(const at::Tensor& leaf) {
  return model_.SumOf(leaf);
}

void ShardedParameters::FinishDirectGradient(const at::Tensor& leaf) {
  model_.FinishSumOf(leaf);
}

std::vector<at::Tensor> ShardedParameters::Gradients() {
  model_.FinishGradients();
  std::vector<at::Tensor> grads;
  for (const auto& unit : model_.units()) {
    for (const auto& part : unit->parts) {
      if (!part->trained()) continue;
      for (size_t i = 0; i < part->leaves().size(); ++i) {
        const bool some = part->layout().SliceOf(i, part->rank()).count > 0;
        grads.push_back(some && part->grad_shard.defined() ? part->SliceOf(i, part->grad_shard)
                                                           : at::Tensor());
      }
    }
  }
  return grads;
}

void ShardedParameters::ZeroGradients() { model_.EndStep(); }

void ShardedParameters::RefreshCompute() { model_.EndStep(); }

void ShardedParameters::SumOverParts(at::Tensor values, const char* what) {
  model_.SumOverShards(std::move(values), what);
}

int64_t ShardedParameters::numel() const {
  int64_t numel = 0;
  for (const auto& unit : model_.units()) {
    for (const auto& part : unit->parts) {
      if (!part->trained()) continue;
      for (const FlatLayout::Item& item : part->layout().items()) numel += item.numel;
    }
  }
  return numel;
}

}  // namespace liger::trainer
