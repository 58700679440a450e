#include "worker/trainer/parallel/fsdp/block_hooks.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <optional>
#include <utility>

namespace liger::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct Call : torch::CustomClassHolder {
  explicit Call(std::function<void()> function) : function(std::move(function)) {}
  std::function<void()> function;
};

// The tensors themselves; in the backward pass, a call first.
class Notice : public torch::autograd::Function<Notice> {
 public:
  static tensor_list forward(AutogradContext* ctx, const at::Tensor& first,
                             const std::optional<at::Tensor>& second,
                             const std::function<void()>& call) {
    ctx->saved_data["call"] = at::IValue::make_capsule(c10::make_intrusive<Call>(call));
    ctx->set_materialize_grads(false);
    tensor_list same = {first.view_as(first)};
    if (second) same.push_back(second->view_as(*second));
    return same;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const auto call =
        c10::static_intrusive_pointer_cast<Call>(ctx->saved_data["call"].toCapsule());
    call->function();
    return {grads[0], grads.size() > 1 ? grads[1] : at::Tensor(), at::Tensor()};
  }
};

class Handler : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit Handler(std::function<void(const at::Tensor&)> done) : done_(std::move(done)) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    const at::NoGradGuard no_grad;
    at::Tensor grad = std::exchange(leaf.mutable_grad(), at::Tensor());
    if (grad.defined()) done_(grad);
  }

 private:
  std::function<void(const at::Tensor&)> done_;
};

}  // namespace

BlockOutput WithBackwardHooks(const BlockFn& block, const at::Tensor& hidden_TD,
                              std::function<void()> before, std::function<void()> after) {
  const BlockOutput out = block(Notice::apply(hidden_TD, std::nullopt, std::move(after))[0]);
  const auto routed = out.routed_2E.defined() ? std::optional(out.routed_2E) : std::nullopt;
  const tensor_list results = Notice::apply(out.hidden_TD, routed, std::move(before));
  return {results[0], routed ? results[1] : at::Tensor()};
}

void OnGradient(const at::Tensor& leaf, std::function<void(const at::Tensor& grad)> done) {
  torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<Handler>(std::move(done)));
}

}  // namespace liger::trainer
