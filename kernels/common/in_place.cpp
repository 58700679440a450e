// What PyTorch generates for its own in-place ops, for those of ours: a clear error where a
// gradient would be lost, and a higher version of what is written, which tells autograd that a
// value saved before is gone. Boxed, one kernel for every signature.
#include <torch/library.h>

namespace liger::kernels {
namespace {

// Without "liger::".
std::string NameOf(const c10::OperatorHandle& op) {
  const std::string& name = op.schema().name();
  return name.substr(name.rfind(':') + 1);
}

// Calls f(argument's name, tensor) for all that the op writes.
template <typename F>
void ForEachWritten(const c10::OperatorHandle& op, const torch::jit::Stack& stack, const F& f) {
  const auto& arguments = op.schema().arguments();
  const size_t first = stack.size() - arguments.size();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* alias = arguments[i].alias_info();
    if (alias == nullptr || !alias->isWrite()) continue;
    const c10::IValue& value = stack[first + i];
    if (value.isTensor()) {
      f(arguments[i].name(), value.toTensor());
    } else if (value.isTensorList()) {
      for (const c10::IValue& element : value.toListRef()) f(arguments[i].name(), element.toTensor());
    }
  }
}

void RefuseGradients(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                     torch::jit::Stack* stack) {
  if (c10::GradMode::is_enabled()) {
    ForEachWritten(op, *stack, [&](const std::string& name, const at::Tensor& written) {
      TORCH_CHECK(!written.requires_grad(), NameOf(op), ": works in place without a gradient, and ",
                  name, " of shape ", written.sym_sizes(),
                  " needs one; detach it, or call under no_grad");
    });
  }
  const at::AutoDispatchBelowAutograd guard;
  op.redispatchBoxed(keys & c10::after_autograd_keyset, stack);
}

void RaiseVersions(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                   torch::jit::Stack* stack) {
  std::vector<at::Tensor> all_written;
  ForEachWritten(op, *stack, [&](const std::string&, const at::Tensor& written) {
    if (written.defined()) all_written.push_back(written);
  });
  {
    const at::AutoDispatchBelowADInplaceOrView guard;
    op.redispatchBoxed(keys & c10::after_ADInplaceOrView_keyset, stack);
  }
  for (const at::Tensor& written : all_written) written.unsafeGetTensorImpl()->bump_version();
}

constexpr const char* kInPlaceOps[] = {
    "adamw_",
    "cross_entropy_and_grad_",
    "cross_entropy_backward_",
    "cross_entropy_correct_grad_",
    "cross_entropy_with_options_and_grad_",
    "divergence_backward_",
    "fused_linear_cross_entropy_accumulate_",
    "fused_linear_jsd_accumulate_",
    "fused_linear_logprob_backward_accumulate_",
    "linear_accumulate_weight_grad_",
    "rope_",
};
TORCH_LIBRARY_IMPL(liger, Autograd, m) {
  for (const char* op : kInPlaceOps) {
    m.impl(op, torch::CppFunction::makeFromBoxedFunction<&RefuseGradients>());
  }
}
TORCH_LIBRARY_IMPL(liger, ADInplaceOrView, m) {
  for (const char* op : kInPlaceOps) {
    m.impl(op, torch::CppFunction::makeFromBoxedFunction<&RaiseVersions>());
  }
}

}  // namespace
}  // namespace liger::kernels
