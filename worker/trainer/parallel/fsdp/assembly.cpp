#include "worker/trainer/parallel/fsdp/assembly.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <exception>
#include <iterator>

#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

constexpr int64_t kEnd = -1;
// Elements that one collective carries.
constexpr int64_t kMessage = int64_t{1} << 26;
// Parameters that checkpoints hold in pieces (a mixture's experts) are asked for by turns.
constexpr size_t kRecent = 2;

// States of an 8-bit optimizer with one number for 256 elements.
bool IsByBlock(const std::string& kind) { return kind.ends_with("_absmax"); }

// States that every rank has whole: adafactor's means of rows and columns, and what is of no
// parameter ("step").
bool IsWhole(const std::string& kind, const std::string& parameter) {
  return parameter.empty() || kind.ends_with("_row") || kind.ends_with("_col");
}

int64_t Blocks(int64_t elements) {
  return (elements + FlatLayout::kAlign - 1) / FlatLayout::kAlign;
}

// "exp_avg" and the parameter's name.
std::pair<std::string, std::string> SplitKey(const std::string& key) {
  const size_t dot = key.find('.');
  return {key.substr(0, dot), dot == std::string::npos ? "" : key.substr(dot + 1)};
}

}  // namespace

Assembly::Assembly(const ShardedModel& model, bool leads) : model_(model), leads_(leads) {
  // Whether the rank that leads is this group's first.
  std::vector<at::Tensor> flag = {
      at::full({1}, int64_t{leads}, at::TensorOptions(model.options().device).dtype(at::kLong))};
  model.options().shards->allreduce(flag)->wait();
  serves_ = !leads && flag[0].item<int64_t>() > 0;
  ListSources({});
}

void Assembly::ListSources(const std::map<std::string, at::Tensor>& states) {
  sources_.clear();
  not_sharded_.clear();
  recent_.clear();
  sources_ = SourcesOf(model_, /*trained_only=*/false);
  num_parameters_ = sources_.size();
  num_reference_ = 0;
  if (const auto copy = reference_.lock()) {
    std::vector<Source> sources = SourcesOf(*copy, /*trained_only=*/false);
    num_reference_ = sources.size();
    std::move(sources.begin(), sources.end(), std::back_inserter(sources_));
  }
  for (const auto& [key, tensor] : states) {
    const auto [kind, name] = SplitKey(key);
    if (IsWhole(kind, name)) {
      not_sharded_[key] = tensor;
    } else {
      sources_.push_back(SourceOfState(key, tensor));
    }
  }
}

std::vector<Assembly::Source> Assembly::SourcesOf(const ShardedModel& model,
                                                  bool trained_only) const {
  std::vector<Source> sources;
  for (const auto& unit : model.units()) {
    for (const auto& part : unit->parts) {
      if (trained_only && !part->trained()) continue;
      for (size_t item = 0; item < part->leaves().size(); ++item) {
        sources.push_back(SourceOf(part->layout().items()[item].name,
                                   {unit.get(), part.get(), item},
                                   part->SliceOf(item, part->shard()), false));
      }
    }
  }
  return sources;
}

void Assembly::SaveToo(const std::shared_ptr<const ShardedModel>& reference) {
  reference_ = reference;
  ListSources({});
}

Assembly::Source Assembly::SourceOf(const std::string& name, const ShardedModel::Place& place,
                                    at::Tensor own, bool by_block) const {
  const FlatLayout& layout = place.part->layout();
  const FlatLayout::Item& item = layout.items()[place.item];
  Source source{name, item.shape, std::move(own), {}};
  if (by_block) source.shape = {Blocks(item.numel)};
  for (int64_t rank = 0; rank < layout.ranks(); ++rank) {
    const int64_t count = layout.SliceOf(place.item, rank).count;
    source.counts.push_back(by_block ? Blocks(count) : count);
  }
  return source;
}

Assembly::Source Assembly::SourceOfState(const std::string& key, const at::Tensor& state) const {
  const auto [kind, name] = SplitKey(key);
  return SourceOf(key, model_.PlaceOf(name), state.view(-1), IsByBlock(kind));
}

Assembly::Shards Assembly::OwnShards(const std::map<std::string, at::Tensor>& states) const {
  Shards shards;
  shards.parameters = SourcesOf(model_, /*trained_only=*/true);
  if (const auto copy = reference_.lock()) {
    shards.reference = SourcesOf(*copy, /*trained_only=*/false);
  }
  for (Shard& shard : shards.reference) shard.name = kReferencePrefix + shard.name;
  for (const auto& [key, state] : states) {
    const auto [kind, name] = SplitKey(key);
    if (!IsWhole(kind, name)) {
      shards.states.push_back(SourceOfState(key, state));
      continue;
    }
    const at::Tensor flat = state.reshape({-1});
    Shard whole{key, state.sizes().vec(), rank() == 0 ? flat : flat.narrow(0, 0, 0), {}};
    whole.counts.assign(static_cast<size_t>(ranks()), 0);
    whole.counts.front() = state.numel();
    shards.states.push_back(std::move(whole));
  }
  return shards;
}

void Assembly::Run(const std::map<std::string, at::Tensor>& states,
                   const std::function<void()>& write) {
  const at::NoGradGuard no_grad;
  ListSources(states);
  if (serves_) return Serve();
  if (!leads_) return;
  std::exception_ptr error;
  try {
    write();
  } catch (...) {
    error = std::current_exception();
  }
  recent_.clear();
  Tell(kEnd);
  if (error) std::rethrow_exception(error);
}

int64_t Assembly::Tell(int64_t index) {
  std::vector<at::Tensor> told = {
      at::full({1}, index, at::TensorOptions(model_.options().device).dtype(at::kLong))};
  model_.options().shards->broadcast(told)->wait();
  return told[0].item<int64_t>();
}

void Assembly::Serve() {
  for (;;) {
    const int64_t index = Tell(kEnd);
    if (index == kEnd) return;
    Collect(sources_.at(index));
    Tick();
  }
}

at::Tensor Assembly::Collect(const Source& source) {
  const auto& group = model_.options().shards;
  const int rank = group->getRank();
  const at::Device device = model_.options().device;  // collectives know no other
  at::Tensor whole;
  if (leads_) whole = at::empty(source.shape, source.own.options().device(at::kCPU));
  int64_t place = 0;
  for (int from = 0; from < group->getSize(); ++from) {
    for (int64_t begin = 0; begin < source.counts[from]; begin += kMessage) {
      const int64_t count = std::min(kMessage, source.counts[from] - begin);
      std::vector<at::Tensor> piece = {
          from == rank ? source.own.narrow(0, begin, count).to(device).contiguous()
                       : at::empty({count}, source.own.options().device(device))};
      if (from != 0) {  // what the first rank has is where it is wanted
        c10d::BroadcastOptions options;
        options.rootRank = from;
        group->broadcast(piece, options)->wait();
      }
      if (leads_) whole.view(-1).narrow(0, place, count).copy_(piece[0]);
      place += count;
    }
  }
  return whole;
}

at::Tensor Assembly::Whole(size_t index) {
  const at::NoGradGuard no_grad;
  for (const auto& [known, whole] : recent_) {
    if (known == index) return whole;
  }
  if (recent_.size() == kRecent) recent_.pop_front();
  Tell(static_cast<int64_t>(index));
  recent_.emplace_back(index, Collect(sources_.at(index)));
  return recent_.back().second;
}

NamedTensor Assembly::Later(size_t index) {
  const Source& source = sources_[index];
  return {source.name, at::empty(source.shape, source.own.options().device(at::kMeta)),
          [this, index] { return Whole(index); }};
}

std::vector<NamedTensor> Assembly::Parameters() {
  std::vector<NamedTensor> tensors;
  for (size_t i = 0; i < num_parameters_; ++i) tensors.push_back(Later(i));
  return tensors;
}

std::vector<NamedTensor> Assembly::ReferenceParameters() {
  std::vector<NamedTensor> tensors;
  for (size_t i = 0; i < num_reference_; ++i) tensors.push_back(Later(num_parameters_ + i));
  return tensors;
}

std::vector<NamedTensor> Assembly::States() {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : not_sharded_) tensors.push_back({name, tensor});
  for (size_t i = num_parameters_ + num_reference_; i < sources_.size(); ++i) {
    tensors.push_back(Later(i));
  }
  return tensors;
}

std::map<std::string, at::Tensor> Assembly::PartsOf(const SavedTensors& saved) const {
  std::map<std::string, at::Tensor> parts;
  for (const auto& [key, shape] : saved.shapes()) {
    const auto [kind, name] = SplitKey(key);
    const auto place = IsWhole(kind, name) ? nullptr : model_.FindPlace(name);
    if (place == nullptr) {
      parts[key] = saved.Whole(key);
      continue;
    }
    const FlatLayout& layout = place->part->layout();
    const FlatLayout::Slice slice = layout.SliceOf(place->item, place->part->rank());
    const bool by_block = IsByBlock(kind);
    const int64_t whole = layout.items()[place->item].numel;
    const bool fits = c10::multiply_integers(shape) == (by_block ? Blocks(whole) : whole);
    // Another shape is the optimizer's to refuse.
    parts[key] = !fits ? saved.Whole(key)
                 : by_block
                     ? saved.Range(key, slice.begin / FlatLayout::kAlign, Blocks(slice.count))
                     : saved.Range(key, slice.begin, slice.count);
  }
  return parts;
}

}  // namespace liger::trainer
