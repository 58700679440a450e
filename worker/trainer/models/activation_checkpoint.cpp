#include "worker/trainer/models/activation_checkpoint.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <utility>

#include "kernels/kept_results.h"
#include "worker/trainer/models/gradient_replay.h"

namespace liger::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// State of the generators that a block on `device` can draw from.
class RandomState {
 public:
  static RandomState Capture(at::Device device) {
    RandomState state;
    state.generators_.push_back(at::detail::getDefaultCPUGenerator());
    if (device.is_cuda()) {
      state.generators_.push_back(at::globalContext().defaultGenerator(device));
    }
    for (at::Generator& generator : state.generators_) {
      std::lock_guard<std::mutex> lock(generator.mutex());
      state.states_.push_back(generator.get_state());
    }
    return state;
  }

  void Restore() {
    for (size_t i = 0; i < generators_.size(); ++i) {
      std::lock_guard<std::mutex> lock(generators_[i].mutex());
      generators_[i].set_state(states_[i]);
    }
  }

 private:
  std::vector<at::Generator> generators_;
  std::vector<at::Tensor> states_;
};

using kernels::KeptResults;

// What a block leaves for its backward pass.
struct Kept {
  at::Tensor input_TD;
  KeptResults results;
};

// All tensors of it, in order; `f` takes a reference.
template <typename F>
void ForEachTensor(Kept& kept, const F& f) {
  f(kept.input_TD);
  for (KeptResults::Entry& entry : kept.results.entries()) {
    for (at::Tensor& t : entry.tensors) f(t);
  }
}

struct Replay : torch::CustomClassHolder {
  BlockFn block;
  RandomState random;
  bool keeps_attention = false;
  Kept kept;  // but for the input, which is among the node's variables, or what `item` has
  std::shared_ptr<ActivationStore> store;
  std::shared_ptr<ActivationStore::Item> item;

  void PutAway() {
    std::vector<at::Tensor> tensors;
    ForEachTensor(kept, [&](at::Tensor& t) { tensors.push_back(std::exchange(t, {})); });
    item = store->Put(std::move(tensors));
  }

  Kept TakeBack(const tensor_list& variables) {
    const bool is_first = !std::exchange(was_taken_, true);
    TORCH_CHECK(is_first || (!store && !keeps_attention),
                "activation checkpointing: a second backward pass over a block whose results were "
                "kept for one");
    Kept back = std::exchange(kept, {});
    if (!store) {
      back.input_TD = variables[0].detach();
      return back;
    }
    const std::vector<at::Tensor> tensors = store->Take(*item);
    size_t i = 0;
    ForEachTensor(back, [&](at::Tensor& t) { t = tensors[i++]; });
    item.reset();
    return back;
  }

 private:
  bool was_taken_ = false;
};

class Checkpoint : public torch::autograd::Function<Checkpoint> {
 public:
  // `anchor` is an empty tensor that requires a gradient. Without it a block
  // whose input needs none would get no node in the graph, and its parameters
  // silently no gradient.
  static tensor_list forward(AutogradContext* ctx, const at::Tensor& hidden_TD,
                             const at::Tensor& anchor, const BlockFn& block, bool keep_attention,
                             const std::shared_ptr<ActivationStore>& store) {
    auto replay = c10::make_intrusive<Replay>();
    replay->block = block;
    replay->random = RandomState::Capture(hidden_TD.device());
    replay->keeps_attention = keep_attention;
    replay->store = store;
    ctx->saved_data["replay"] = at::IValue::make_capsule(replay);
    ctx->saved_data["needs_input_grad"] = hidden_TD.requires_grad();
    // Function::apply has switched gradients off.
    tensor_list outputs = Run(*replay, replay->kept, hidden_TD, KeptResults::Run::kFirst);
    if (store) {
      replay->kept.input_TD = hidden_TD.detach();
      replay->PutAway();
    } else {
      ctx->save_for_backward({hidden_TD});
    }
    return outputs;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const auto replay =
        c10::static_intrusive_pointer_cast<Replay>(ctx->saved_data["replay"].toCapsule());
    Kept kept = replay->TakeBack(ctx->get_saved_variables());
    at::Tensor in_TD = std::exchange(kept.input_TD, {});
    in_TD.requires_grad_(ctx->saved_data["needs_input_grad"].toBool());

    RandomState now = RandomState::Capture(in_TD.device());
    replay->random.Restore();
    tensor_list outputs;
    {
      const at::AutoGradMode grad_mode(true);
      const GradientReplay gradients_alone;
      outputs = Run(*replay, kept, in_TD, KeptResults::Run::kSecond);
    }
    now.Restore();
    tensor_list roots, root_grads;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].requires_grad() || !grads[i].defined()) continue;
      roots.push_back(outputs[i]);
      root_grads.push_back(grads[i]);
    }
    if (!roots.empty()) torch::autograd::backward(roots, root_grads);
    return {in_TD.grad(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static tensor_list Run(const Replay& replay, Kept& kept, const at::Tensor& in_TD,
                         KeptResults::Run run) {
    if (!replay.keeps_attention) return Outputs(replay.block(in_TD));
    const KeptResults::Scope scope(kept.results, run);
    return Outputs(replay.block(in_TD));
  }

  static tensor_list Outputs(const BlockOutput& out) {
    return out.routed_2E.defined() ? tensor_list{out.hidden_TD, out.routed_2E}
                                   : tensor_list{out.hidden_TD};
  }
};

}  // namespace

thread_local bool GradientReplay::active_ = false;

BlockOutput CheckpointedCall(const BlockFn& block, const at::Tensor& hidden_TD,
                             bool keep_attention, const std::shared_ptr<ActivationStore>& store) {
  if (!at::GradMode::is_enabled()) return block(hidden_TD);
  const at::Tensor anchor = at::empty({0}, hidden_TD.options()).requires_grad_();
  const tensor_list outputs = Checkpoint::apply(hidden_TD, anchor, block, keep_attention, store);
  return {outputs[0], outputs.size() > 1 ? outputs[1] : at::Tensor()};
}

void ApplyActivationCheckpointing(CausalLM& model, const CheckpointPolicy& policy) {
  std::shared_ptr<ActivationStore> store;
  model.set_block_runner([policy, store](int64_t layer, const BlockFn& block,
                                         const at::Tensor& hidden_TD) mutable {
    if (layer % policy.every != 0) return block(hidden_TD);
    if (policy.offload && !store) store = std::make_shared<ActivationStore>(hidden_TD.device());
    return CheckpointedCall(block, hidden_TD, policy.keep_attention, store);
  });
}

}  // namespace liger::trainer
