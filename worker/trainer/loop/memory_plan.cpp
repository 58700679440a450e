#include "worker/trainer/loop/memory_plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "worker/trainer/models/layers.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/parallel/fsdp/shard_unit.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {
namespace {

using liger::v1::JobSpec;

// Of the logits that a fused head holds at once on a GPU (kernels/common/linear_head.cpp).
constexpr double kLogitsBytes = double{900 << 20};

double SizeOf(at::ScalarType dtype) { return static_cast<double>(c10::elementSize(dtype)); }

// Of a trained element.
double StateBytes(const liger::v1::TrainingSpec& training, const PrecisionPlan& precision) {
  const std::string& optimizer = training.optim();
  const double state = SizeOf(precision.optimizer);
  if (optimizer == "adamw_8bit") return 2 + 8.0 / 256;
  if (optimizer == "adafactor") return 0;  // a row and a column of a matrix
  if (optimizer == "sgd") return training.sgd_momentum() > 0 ? state : 0;
  return optimizer == "lion" ? state : 2 * state;
}

struct Elements {
  double trained = 0, frozen = 0;
  double all() const { return trained + frozen; }
};

// A model's parameters as they are gathered and reduced: by unit.
struct Shapes {
  Elements whole, largest_block, head, embedding;
  std::map<std::string, Elements> units;
  bool tied = false;

  explicit Shapes(const CausalLM& model) : tied(model.config().tie_word_embeddings) {
    for (const auto& item : model.named_parameters()) {
      const double numel = static_cast<double>(item.value().numel());
      const std::string unit = UnitName(item.key());
      for (Elements* of : {&whole, &units[unit]}) {
        (item.value().requires_grad() ? of->trained : of->frozen) += numel;
      }
    }
    for (const auto& [name, elements] : units) {
      if (IsBlockName(name) && elements.all() > largest_block.all()) largest_block = elements;
      if (name == kEmbeddingName) embedding = elements;
      if (name == "lm_head.weight") head = elements;
    }
    if (tied) head = embedding;
  }
};

// What a block's forward pass leaves for its backward pass, and what that makes beside it, a token.
struct BlockActivations {
  double input, kept, transient;
};

// Of a dense pre-norm block of LIGER's ops, in the compute dtype (D, N heads of H, K key heads, F):
//   kept       its input, the input of q, k and v; q and k after the rotation, v; attention's
//              output (which o_proj reads, too); the sum before the second norm, that norm's
//              output; gate, up
//   fp32       a number a head of attention's softmax, two of the norms
//   transient  the gradient of the block's output, and in the fused gate those of the product,
//              of gate and of up
// Of `places` that divide tokens among them, each attends with its share of the heads, of keys and
// values as many as they share out (GroupAttention), and has attention's output twice: as it was
// made, of all tokens, and of its own. What is exchanged is gone when `transient` is there.
std::optional<BlockActivations> ActivationsOf(const ModelConfig& config,
                                              const KernelChoice& kernels, double c,
                                              int64_t places) {
  constexpr std::array kDense = {"llama", "mistral", "qwen2", "qwen3", "phi3"};
  const bool dense = std::ranges::find(kDense, config.model_type) != kDense.end();
  if (!dense || !kernels.swiglu || !kernels.rms_norm || !kernels.rope) return std::nullopt;
  const auto D = static_cast<double>(config.hidden_size);
  const auto F = static_cast<double>(config.intermediate_size);
  const auto N = static_cast<double>(config.num_attention_heads);
  const auto H = static_cast<double>(config.head_dim);
  const double q = N * H, kv = static_cast<double>(config.num_key_value_heads) * H;
  const auto shared_out = static_cast<double>(std::lcm(config.num_key_value_heads, places)) * H;
  const double of_group = places > 1 ? (q + 2 * (shared_out - kv)) * c : 0;
  // Qwen3's norms keep their inputs, and a number a head.
  const bool qk_norm = config.model_type == "qwen3";
  const double normed = qk_norm ? (q + kv) * c + 4 * (q + kv) / H : 0;
  return BlockActivations{.input = D * c,
                          .kept = (4 * D + 2 * q + 2 * kv + 2 * F) * c + 4 * N + 8 + normed +
                                  of_group,
                          .transient = (D + 3 * F) * c};
}

// What KeptResults has of a block's attention, tensor by tensor, in bytes a token: what its fused
// layers without an adapter come to, its output, and a float32 a head.
std::vector<double> AttentionResultsOf(const CausalLM& model, double c) {
  const ModelConfig& config = model.config();
  const auto heads = static_cast<double>(config.num_attention_heads);
  std::vector<double> bytes = {heads * static_cast<double>(config.head_dim) * c, 4 * heads};
  for (const auto& item : model.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    const auto* layer = dynamic_cast<const Linear*>(item.value().get());
    if (layer == nullptr || !layer->CanFuse() ||
        !item.key().starts_with("model.layers.0.self_attn.")) {
      continue;
    }
    bytes.push_back(static_cast<double>(layer->weight.size(0)) * c);
  }
  return bytes;
}

// Of a micro-batch of rows as long as they may be.
double TokensOf(const liger::v1::TrainingSpec& training, RowKind kind) {
  const double rows = training.per_device_train_batch_size() * (kind == RowKind::kPair ? 2.0 : 1.0);
  return rows * static_cast<double>(training.max_length());
}

double PinnedBytes(double bytes) {
  return bytes < 1 ? 0 : double(std::bit_ceil(static_cast<uint64_t>(bytes)));
}

class Planner {
 public:
  Planner(const CausalLM& model, const JobSpec& spec, const PrecisionPlan& precision, int ranks)
      : model_(model),
        spec_(spec),
        objective_(MakeObjective(spec)),
        shapes_(model),
        fsdp_(spec.parallel().strategy() == liger::v1::PARALLEL_STRATEGY_FSDP),
        whole_on_all_(spec.parallel().shard() == liger::v1::SHARD_KIND_OPTIMIZER),
        on_host_(spec.parallel().cpu_offload()),
        places_(std::max(1, spec.parallel().sequence_parallel_size())),
        ranks_(!fsdp_ ? 1
                      : (spec.parallel().hybrid_shard_size() > 0
                             ? spec.parallel().hybrid_shard_size()
                             : ranks)),
        storage_(SizeOf(precision.storage)),
        compute_(SizeOf(precision.compute)),
        gradient_(SizeOf(precision.gradient)),
        reduce_(SizeOf(ReduceDtype(spec.parallel(), precision))),
        state_(StateBytes(spec.training(), precision)),
        copy_(precision.has_compute_copy() ? compute_ : 0) {}

  MemoryPlan Plan() {
    MemoryPlan plan;
    resting_ = fsdp_ ? RestingOfShards() : RestingOfWhole();
    plan.resting = static_cast<int64_t>(resting_);
    plan.gradients = static_cast<int64_t>(GradientOf(shapes_.whole.trained));
    tokens_ = TokensOf(spec_.training(), objective_->row_kind()) / static_cast<double>(places_);
    const bool on_gpu = spec_.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA;
    plan.host = static_cast<int64_t>(host_);
    if (on_gpu) plan.host_activations = static_cast<int64_t>(OffloadedActivations());
    const auto block = ActivationsOf(model_.config(), model_.kernels(), compute_, places_);
    if (!block || !on_gpu || spec_.has_lora() || !objective_->FusesHead(model_)) return plan;
    plan.peak = static_cast<int64_t>(std::max({AtHead(*block), AtLastBlock(*block),
                                               AtFirstBlock(*block), AtEmbedding()}));
    return plan;
  }

 private:
  // ---- All the step long ----

  double RestingOfWhole() const {
    const Elements& all = shapes_.whole;
    const double model = all.trained * (storage_ + copy_) + all.frozen * compute_;
    const double states = all.trained * state_;
    const double reference = HasReference() ? all.all() * compute_ : 0;
    // One that is asked before the first update is on the host when there are states.
    return model + (HasLiveReference() ? states + reference : std::max(states, reference));
  }
  double RestingOfShards() {
    const Elements& all = shapes_.whole;
    double shards = (all.trained * (storage_ + state_) + all.frozen * compute_) / ranks_;
    double reference = HasReference() ? all.all() * compute_ / ranks_ : 0;
    if (on_host_) {
      host_ += all.trained * state_ / ranks_;
      for (const auto& [name, unit] : shapes_.units) {
        host_ += PinnedBytes(unit.trained * storage_ / ranks_) +
                 PinnedBytes(unit.trained * gradient_ / ranks_) +
                 PinnedBytes(unit.frozen * compute_ / ranks_);
      }
      shards = 0;
    }
    if (on_host_ || !HasLiveReference()) {
      if (HasReference()) {
        for (const auto& [name, unit] : shapes_.units) {
          host_ += PinnedBytes(unit.all() * compute_ / ranks_);
        }
      }
      reference = 0;
    }
    return shards + reference + Gathered();
  }
  double Gathered() const {
    const double whole = shapes_.whole.all() * compute_;
    if (whole_on_all_) return whole * (HasLiveReference() ? 2 : 1);
    const auto& parallel = spec_.parallel();
    const bool by_turns =
        !parallel.has_reshard_after_forward() || parallel.reshard_after_forward();
    const double layers = static_cast<double>(model_.config().num_hidden_layers);
    const double head = shapes_.head.all() * compute_;
    return (by_turns ? 2 : layers) * shapes_.largest_block.all() * compute_ +
           head * (HasLiveReference() ? 2 : 1);
  }
  // With memory of its own.
  bool HasReference() const { return objective_->NeedsReference() && !spec_.has_lora(); }
  bool HasLiveReference() const { return HasReference() && !objective_->PrecomputesReference(); }

  // ---- Gradients ----

  // On the device, of so many trained elements, once they are summed.
  double GradientOf(double trained) const {
    return fsdp_ && on_host_ ? 0 : trained * gradient_ / ranks_;
  }
  // Of blocks on their way to the ranks' shards.
  double OnTheirWay() const { return fsdp_ ? 2 * shapes_.largest_block.trained * reduce_ : 0; }
  bool head_is_done_early() const { return !shapes_.tied; }
  double HeadSum() const { return 4 * shapes_.head.trained; }
  // After the head's forward pass: its sum in fp32 to the end of the backward pass where the
  // embedding adds to it, too, else what that is rounded to.
  double HeadInBackward() const {
    return head_is_done_early() ? GradientOf(shapes_.head.trained) : HeadSum();
  }
  // What the sum is rounded to beside it; where gradients are fp32 it is the gradient.
  double RoundedHead() const {
    return fsdp_ || gradient_ < 4 ? GradientOf(shapes_.head.trained) : 0;
  }

  // ---- Activations ----

  bool Checkpointed(int64_t layer) const {
    const auto& training = spec_.training();
    return training.gradient_checkpointing() &&
           layer % std::max(1, training.gradient_checkpointing_every()) == 0;
  }
  int64_t CheckpointedBefore(int64_t end) const {
    int64_t count = 0;
    for (int64_t layer = 0; layer < end; ++layer) count += Checkpointed(layer) ? 1 : 0;
    return count;
  }
  // What a checkpointed block keeps, tensor by tensor, a token.
  std::vector<double> CheckpointBytes() const {
    const ModelConfig& config = model_.config();
    std::vector<double> bytes = {static_cast<double>(config.hidden_size) * compute_};
    if (spec_.training().gradient_checkpointing_keep_attention()) {
      for (const double one : AttentionResultsOf(model_, compute_)) bytes.push_back(one);
    }
    return bytes;
  }
  // In the host's memory.
  double OffloadedActivations() const {
    if (!spec_.training().activation_offloading()) return 0;
    double bytes = 0;
    for (const double one : CheckpointBytes()) bytes += PinnedBytes(one * tokens_);
    return bytes * static_cast<double>(CheckpointedBefore(layers()));
  }
  // Of the blocks before `end`, and the input of that one. Of what goes to the host one block's is
  // still or again there.
  double ActivationsBefore(int64_t end, const BlockActivations& block) const {
    const std::vector<double> checkpoint = CheckpointBytes();
    const auto checkpointed = static_cast<double>(CheckpointedBefore(end));
    const double whole = static_cast<double>(end) - checkpointed;
    const double held =
        spec_.training().activation_offloading() ? std::min(1.0, checkpointed) : checkpointed;
    return (block.input + whole * block.kept +
            held * std::accumulate(checkpoint.begin(), checkpoint.end(), 0.0)) *
           tokens_;
  }
  int64_t layers() const { return model_.config().num_hidden_layers; }

  // ---- Moments ----

  // The fused head has all activations, a chunk of logits and its gradient; beside that the last
  // norm's output, its rows with targets, and their gradient. Rounding the gradient comes after
  // the chunk's end.
  double AtHead(const BlockActivations& block) const {
    const double rows = 3 * block.input * tokens_;
    const double vocabulary = static_cast<double>(model_.config().vocab_size);
    const double logits = std::min(kLogitsBytes, tokens_ * vocabulary * compute_);
    const double rounded = head_is_done_early() ? RoundedHead() : 0;
    return resting_ + ActivationsBefore(layers(), block) + rows + HeadSum() +
           std::max(logits, rounded);
  }
  // In the backward pass of a block, beside what it keeps: gradients of the ones after it.
  double InBlock(int64_t layer, const BlockActivations& block) const {
    const double after = static_cast<double>(layers() - 1 - layer);
    const double own = (block.kept - block.input + block.transient) * tokens_;
    const double weight = static_cast<double>(model_.config().hidden_size) *
                          static_cast<double>(model_.config().intermediate_size) * compute_;
    const bool trains = shapes_.largest_block.trained > 0;
    return resting_ + ActivationsBefore(layer, block) + own + HeadInBackward() +
           after * GradientOf(shapes_.largest_block.trained) + (after > 0 ? OnTheirWay() : 0) +
           (trains && shapes_.largest_block.frozen == 0 ? weight : 0);
  }
  double AtLastBlock(const BlockActivations& block) const { return InBlock(layers() - 1, block); }
  double AtFirstBlock(const BlockActivations& block) const { return InBlock(0, block); }
  // All gradients are there, and that of the embedding whole as autograd has made it. One that is
  // the head's, too, is added to its sum, and on one device rounded; else it is brought to another
  // dtype where sums have one.
  double AtEmbedding() const {
    const double blocks = static_cast<double>(layers()) * shapes_.largest_block.trained;
    const double trained = shapes_.embedding.trained;
    double bytes = resting_ + GradientOf(blocks) + OnTheirWay() + HeadInBackward() +
                   trained * compute_;
    if (shapes_.tied) return bytes + (fsdp_ ? 0 : RoundedHead());
    if (fsdp_) {
      if (reduce_ != compute_) bytes += trained * reduce_;
      return bytes + GradientOf(trained);
    }
    return bytes + (gradient_ != compute_ ? GradientOf(trained) : 0);
  }

  const CausalLM& model_;
  const JobSpec& spec_;
  const std::unique_ptr<Objective> objective_;
  const Shapes shapes_;
  const bool fsdp_, whole_on_all_, on_host_;
  const int64_t places_;  // of a sequence group
  const double ranks_;
  const double storage_, compute_, gradient_, reduce_, state_, copy_;
  double resting_ = 0, host_ = 0, tokens_ = 0;
};

}  // namespace

MemoryPlan PlanMemory(const CausalLM& model, const JobSpec& spec, const PrecisionPlan& precision,
                      int ranks) {
  return Planner(model, spec, precision, ranks).Plan();
}

}  // namespace liger::trainer
