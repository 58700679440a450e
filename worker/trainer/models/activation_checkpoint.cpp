#include "worker/trainer/models/activation_checkpoint.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>

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

// What the backward pass needs besides the input.
struct Replay : torch::CustomClassHolder {
  BlockFn block;
  RandomState random;
};

class Checkpoint : public torch::autograd::Function<Checkpoint> {
 public:
  // `anchor` is an empty tensor that requires a gradient. Without it a block
  // whose input needs none would get no node in the graph, and its parameters
  // silently no gradient.
  static tensor_list forward(AutogradContext* ctx, const at::Tensor& hidden_TD,
                             const at::Tensor& anchor, const BlockFn& block) {
    auto replay = c10::make_intrusive<Replay>();
    replay->block = block;
    replay->random = RandomState::Capture(hidden_TD.device());
    ctx->saved_data["replay"] = at::IValue::make_capsule(replay);
    ctx->saved_data["needs_input_grad"] = hidden_TD.requires_grad();
    ctx->save_for_backward({hidden_TD});
    return Outputs(block(hidden_TD));  // Function::apply has switched gradients off
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const auto replay =
        c10::static_intrusive_pointer_cast<Replay>(ctx->saved_data["replay"].toCapsule());
    at::Tensor in_TD = ctx->get_saved_variables()[0].detach();
    in_TD.requires_grad_(ctx->saved_data["needs_input_grad"].toBool());

    RandomState now = RandomState::Capture(in_TD.device());
    replay->random.Restore();
    tensor_list outputs;
    {
      const at::AutoGradMode grad_mode(true);
      const GradientReplay gradients_alone;
      outputs = Outputs(replay->block(in_TD));
    }
    now.Restore();
    tensor_list roots, root_grads;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].requires_grad() || !grads[i].defined()) continue;
      roots.push_back(outputs[i]);
      root_grads.push_back(grads[i]);
    }
    if (!roots.empty()) torch::autograd::backward(roots, root_grads);
    return {in_TD.grad(), at::Tensor(), at::Tensor()};
  }

 private:
  static tensor_list Outputs(const BlockOutput& out) {
    return out.routed_2E.defined() ? tensor_list{out.hidden_TD, out.routed_2E}
                                   : tensor_list{out.hidden_TD};
  }
};

}  // namespace

thread_local bool GradientReplay::active_ = false;

BlockOutput CheckpointedCall(const BlockFn& block, const at::Tensor& hidden_TD) {
  if (!at::GradMode::is_enabled()) return block(hidden_TD);
  const at::Tensor anchor = at::empty({0}, hidden_TD.options()).requires_grad_();
  const tensor_list outputs = Checkpoint::apply(hidden_TD, anchor, block);
  return {outputs[0], outputs.size() > 1 ? outputs[1] : at::Tensor()};
}

void ApplyActivationCheckpointing(CausalLM& model, int64_t every) {
  model.set_block_runner([every](int64_t layer, const BlockFn& block, const at::Tensor& hidden_TD) {
    return layer % every == 0 ? CheckpointedCall(block, hidden_TD) : block(hidden_TD);
  });
}

}  // namespace liger::trainer
