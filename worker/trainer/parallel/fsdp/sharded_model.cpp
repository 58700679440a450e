#include "worker/trainer/parallel/fsdp/sharded_model.h"

#include <ATen/ATen.h>

#include <charconv>
#include <deque>
#include <tuple>
#include <utility>

#include "worker/trainer/parallel/fsdp/block_hooks.h"

namespace liger::trainer {
namespace {

// Parameters that one FlatParameter can hold.
using Kind = std::tuple<bool, at::ScalarType, at::ScalarType>;  // trained, stored, gathered

}  // namespace

ShardedModel::ShardedModel(ShardOptions options, std::shared_ptr<UnitGatherer> gatherer)
    : options_(std::move(options)), gatherer_(std::move(gatherer)) {}

ShardedModel::ShardedModel(CausalLM& model, ShardOptions options, const Fill& fill)
    : ShardedModel(std::move(options), nullptr) {
  const bool by_turns = options_.shards_parameters && options_.reshard_after_forward;
  const auto layers = static_cast<size_t>(model.config().num_hidden_layers);
  const size_t buffers = by_turns ? 2 : std::max<size_t>(layers, 2);
  gatherer_ = std::make_shared<UnitGatherer>(options_.shards, options_.device, buffers,
                                             options_.notes);
  reducer_ = std::make_unique<ShardReducer>(options_.shards, options_.reduce,
                                            options_.precision.gradient, options_.device,
                                            options_.notes);
  MakeUnits(model);
  for (const auto& parameter : model.named_parameters()) {
    const Place& place = places_.at(parameter.key());
    if (fill) fill(parameter.key(), parameter.value());
    place.part->CopyValues(place.item);
    place.part->BindLeaf(place.item);
    if (!place.part->trained()) continue;
    OnGradient(parameter.value(),
               [this, place](const at::Tensor& grad) { OnLeafGradient(place, grad); });
    if (place.unit->kept || place.part->gathered_dtype() != options_.reduce) continue;
    gradient_places_.emplace_back(parameter.value(),
                                  [this, place] { return PlaceForGradient(place); });
  }
  Install(model);
}

ShardedModel::~ShardedModel() {
  LetGo();  // a copy's gatherer is its source's, too
}

void ShardedModel::LetGo() {
  for (const auto& unit : units_) gatherer_->Forget(*unit);
}

void ShardedModel::MakeUnits(CausalLM& model) {
  const PrecisionPlan& plan = options_.precision;
  std::vector<std::string> order;
  std::map<std::string, std::map<Kind, std::vector<FlatParameter::Leaf>>> units;
  for (const auto& parameter : model.named_parameters()) {
    const std::string& name = parameter.key();
    const at::Tensor& leaf = parameter.value();
    const bool computes_in_other = leaf.requires_grad() && plan.has_compute_copy() &&
                                   !(options_.keeps_storage && options_.keeps_storage(name));
    const at::ScalarType stored = leaf.scalar_type();
    const std::string unit = UnitName(name);
    if (!units.contains(unit)) order.push_back(unit);
    units[unit][{leaf.requires_grad(), stored, computes_in_other ? plan.compute : stored}]
        .push_back({name, leaf});
  }
  const bool tied = model.config().tie_word_embeddings;
  const int rank = options_.shards->getRank(), ranks = options_.shards->getSize();
  for (const std::string& name : order) {
    ShardUnit& unit = AddUnit(name, tied);
    for (auto& [kind, leaves] : units[name]) {
      const auto [trained, stored, gathered] = kind;
      AddPart(unit, std::make_unique<FlatParameter>(std::move(leaves), stored, gathered, rank,
                                                    ranks, home()));
    }
  }
  TORCH_CHECK(embedding_ != nullptr && !blocks_.empty(), "a model has an embedding and blocks");
}

ShardUnit& ShardedModel::AddUnit(const std::string& name, bool tied) {
  ShardUnit& unit = *units_.emplace_back(std::make_unique<ShardUnit>());
  unit.name = name;
  unit.is_block = IsBlockName(name);
  if (unit.is_block) {
    blocks_.push_back(&unit);
  } else if (name == kEmbeddingName) {
    embedding_ = &unit;
    unit.kept = tied;
  } else {
    after_blocks_.push_back(&unit);
    unit.kept = true;
  }
  return unit;
}

void ShardedModel::AddPart(ShardUnit& unit, std::unique_ptr<FlatParameter> part) {
  for (size_t item = 0; item < part->layout().items().size(); ++item) {
    places_[part->layout().items()[item].name] = {&unit, part.get(), item};
  }
  unit.parts.push_back(std::move(part));
}

std::unique_ptr<ShardedModel> ShardedModel::FrozenCopy(const ShardedModel& source,
                                                       CausalLM& model, bool on_host) {
  const at::NoGradGuard no_grad;
  std::unique_ptr<ShardedModel> copy(new ShardedModel(source.options_, source.gatherer_));
  copy->options_.on_host |= on_host;
  const auto parameters = model.named_parameters();
  for (const auto& from : source.units_) {
    ShardUnit& unit = copy->AddUnit(from->name, model.config().tie_word_embeddings);
    for (const auto& part : from->parts) {
      std::vector<FlatParameter::Leaf> leaves;
      for (const FlatLayout::Item& item : part->layout().items()) {
        at::Tensor leaf = parameters[item.name];
        leaves.push_back({item.name, leaf.requires_grad_(false)});
      }
      const at::ScalarType dtype = part->gathered_dtype();
      auto frozen = std::make_unique<FlatParameter>(
          std::move(leaves), dtype, dtype, source.options_.shards->getRank(),
          source.options_.shards->getSize(), part->trained() ? copy->home() : part->home());
      if (part->trained()) {
        at::Tensor(frozen->shard()).copy_(part->shard());
      } else {
        frozen->ShareShard(*part);
      }
      for (size_t item = 0; item < frozen->leaves().size(); ++item) frozen->BindLeaf(item);
      copy->AddPart(unit, std::move(frozen));
    }
  }
  copy->Install(model);
  return copy;
}

void ShardedModel::MoveToward(const ShardedModel& source, double alpha) {
  const at::NoGradGuard no_grad;
  for (size_t u = 0; u < units_.size(); ++u) {
    for (size_t p = 0; p < units_[u]->parts.size(); ++p) {
      at::Tensor target = units_[u]->parts[p]->shard();
      if (target.is_same(source.units_[u]->parts[p]->shard())) continue;  // nothing trains it
      const at::Tensor from = source.units_[u]->parts[p]->shard().to(target.scalar_type());
      target.copy_(at::lerp(target.to(at::kFloat), from.to(at::kFloat), alpha));
    }
  }
  ShardsChanged();
}

void ShardedModel::ReadBy(CausalLM& model) {
  for (const auto& parameter : model.named_parameters()) {
    at::Tensor leaf = parameter.value();
    const auto place = places_.find(parameter.key());
    if (place == places_.end() || place->second.part->trained()) continue;
    leaf.requires_grad_(false);
    place->second.part->Bind(place->second.item, leaf);
  }
  Install(model);
}

void ShardedModel::Install(CausalLM& model) {
  model.set_before_forward([this] { BeginForward(); });
  model.set_block_runner([this, inner = model.block_runner()](
                             int64_t layer, const BlockFn& block, const at::Tensor& hidden_TD) {
    return RunBlock(static_cast<size_t>(layer), inner, block, hidden_TD);
  });
}

void ShardedModel::BeginForward() {
  if (at::GradMode::is_enabled()) {
    has_gradients_ = true;
    embedding_->awaits_reduction = embedding_->trained() && !embedding_->kept;
  }
  gatherer_->Use(*embedding_);
  gatherer_->Prefetch(*blocks_[0]);
}

BlockOutput ShardedModel::RunBlock(size_t block, const BlockRunner& inner, const BlockFn& function,
                                   const at::Tensor& hidden_TD) {
  ShardUnit& unit = *blocks_[block];
  const bool last = block + 1 == blocks_.size(), gradients = at::GradMode::is_enabled();
  if (block == 0 && lets_go() && !embedding_->kept) gatherer_->Release(*embedding_);
  gatherer_->Use(unit);
  if (!last) gatherer_->Prefetch(*blocks_[block + 1]);
  if (last) {
    for (ShardUnit* after : after_blocks_) gatherer_->Prefetch(*after);
  }
  const BlockFn run = [&inner, &function, block](const at::Tensor& in_TD) {
    return inner ? inner(static_cast<int64_t>(block), function, in_TD) : function(in_TD);
  };
  if (gradients) unit.awaits_reduction = unit.trained();
  const BlockOutput out =
      gradients ? WithBackwardHooks(
                      run, hidden_TD, [this, block] { BeginBackward(block); },
                      [this, block] { EndBackward(block); })
                : run(hidden_TD);
  if (lets_go() && (!gradients || options_.reshard_after_forward)) gatherer_->Release(unit);
  if (last) {
    for (ShardUnit* after : after_blocks_) gatherer_->Use(*after);
  }
  return out;
}

void ShardedModel::BeginBackward(size_t block) {
  gatherer_->Use(*blocks_[block]);
  if (block > 0) gatherer_->Prefetch(*blocks_[block - 1]);
}

void ShardedModel::EndBackward(size_t block) {
  if (blocks_[block]->awaits_reduction) Reduce(*blocks_[block]);
  if (lets_go()) gatherer_->Release(*blocks_[block]);
}

void ShardedModel::OnLeafGradient(const Place& place, const at::Tensor& grad) {
  FlatParameter& part = *place.part;
  const FlatLayout& layout = part.layout();
  if (place.unit->kept) {
    TORCH_CHECK(!summed_.contains(&part), "a gradient of ", place.unit->name, " after its sum");
    MakeGradientSum(part);
  } else if (!part.grad_whole.defined()) {
    // A parameter that fills the flat one is its own buffer.
    if (grad.numel() == layout.numel()) {
      part.grad_whole = grad.to(reducer_->dtype()).contiguous().view(-1);
      part.grad_written[place.item] = true;
      return;
    }
    reducer_->LendBuffer(part);
  }
  part.AddGradient(place.item, grad);
}

at::Tensor ShardedModel::PlaceForGradient(const Place& place) {
  if (!place.part->grad_whole.defined()) reducer_->LendBuffer(*place.part);
  return place.part->PlaceForGradient(place.item);
}

void ShardedModel::MakeGradientSum(FlatParameter& part, std::optional<size_t> but) {
  if (part.grad_whole.defined()) return;
  const int64_t numel = part.layout().numel();
  part.grad_whole = at::empty({numel}, at::TensorOptions(options_.device).dtype(at::kFloat));
  int64_t begin = numel, end = numel;
  if (but) {
    begin = part.layout().items()[*but].offset;
    end = begin + part.layout().items()[*but].numel;
  }
  part.grad_whole.narrow(0, 0, begin).zero_();
  part.grad_whole.narrow(0, end, numel - end).zero_();
  part.grad_written.assign(part.grad_written.size(), true);
}

std::optional<GradientSum> ShardedModel::SumOf(const at::Tensor& leaf) {
  for (const auto& [name, place] : places_) {
    if (!place.part->leaves()[place.item].is_same(leaf)) continue;
    if (!place.unit->kept || !place.part->trained()) return std::nullopt;
    const bool is_new = !place.part->grad_whole.defined();
    MakeGradientSum(*place.part, place.item);
    return GradientSum{place.part->GradientOf(place.item), is_new};
  }
  return std::nullopt;
}

void ShardedModel::FinishSumOf(const at::Tensor& leaf) {
  for (const auto& [name, place] : places_) {
    if (!place.part->leaves()[place.item].is_same(leaf)) continue;
    const bool alone = place.unit->parts.size() == 1 && place.part->leaves().size() == 1;
    if (place.unit->kept && alone && place.part->trained()) Reduce(*place.unit);
  }
}

void ShardedModel::Reduce(ShardUnit& unit) {
  unit.awaits_reduction = false;
  for (const auto& part : unit.parts) {
    if (!part->trained()) continue;
    if (unit.kept) {
      MakeGradientSum(*part);
      summed_.insert(part.get());
    } else {
      // Also where this rank has nothing: the others wait for it.
      if (!part->grad_whole.defined()) reducer_->LendBuffer(*part);
      part->ZeroTheRest();
    }
    part->ForgetGradient();
    reducer_->Reduce(*part);
  }
}

void ShardedModel::FinishBackward() {
  for (auto unit = units_.rbegin(); unit != units_.rend(); ++unit) {
    if ((*unit)->awaits_reduction) Reduce(**unit);
  }
  if (!lets_go()) return;
  for (ShardUnit* block : blocks_) gatherer_->Release(*block);
}

void ShardedModel::FinishGradients() {
  const at::NoGradGuard no_grad;
  for (const auto& unit : units_) {
    if (!unit->kept) continue;
    const bool summed = summed_.contains(unit->parts.front().get());
    if (has_gradients_ && unit->trained() && !summed) Reduce(*unit);
    if (lets_go()) gatherer_->Release(*unit);
  }
  reducer_->Wait();
  if (options_.replicas) SumOverCopies();
  home().HostWaits();
}

void ShardedModel::SumOverCopies() {
  struct Sum {
    const FlatParameter* part;
    at::Tensor values;
    c10::intrusive_ptr<c10d::Work> work;
  };
  std::deque<Sum> sums;
  const auto finish = [&] {
    const Sum& oldest = sums.front();
    options_.notes.Wait(*oldest.work, "the sum of gradients over copies");
    if (!oldest.values.is_same(oldest.part->grad_shard)) {
      oldest.part->home().Store(oldest.part->grad_shard, oldest.values);
    }
    sums.pop_front();
  };
  for (const auto& unit : units_) {
    for (const auto& part : unit->parts) {
      if (!part->grad_shard.defined()) continue;
      std::vector<at::Tensor> one = {part->home().OnDevice(part->grad_shard)};
      options_.notes.Issue();
      sums.push_back({part.get(), one[0], options_.replicas->allreduce(one)});
      // Of what rests elsewhere only two are on the device at once.
      if (options_.on_host && sums.size() > 1) finish();
    }
  }
  while (!sums.empty()) finish();
}

void ShardedModel::SumOverShards(at::Tensor values, const char* what) const {
  std::vector<at::Tensor> sums = {values.to(options_.device)};
  options_.notes.Issue();
  options_.notes.Wait(*options_.shards->allreduce(sums), what);
  if (!sums[0].is_same(values)) values.copy_(sums[0]);
}

void ShardedModel::EndStep() {
  for (const auto& unit : units_) {
    unit->awaits_reduction = false;
    for (const auto& part : unit->parts) {
      part->grad_shard = part->grad_whole = at::Tensor();
      part->ForgetGradient();
    }
  }
  summed_.clear();
  has_gradients_ = false;
  gatherer_->Invalidate();
  // What the next pass begins with, while the host is between two steps.
  gatherer_->Prefetch(*embedding_);
  gatherer_->Prefetch(*blocks_[0]);
}

}  // namespace liger::trainer
