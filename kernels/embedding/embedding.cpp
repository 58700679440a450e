#include "kernels/embedding/embedding.h"

#include <torch/library.h>
#include <torch/torch.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/path_of.h"
#include "kernels/embedding/embedding_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "embedding";
using OptionalInt = std::optional<int64_t>;

void Check(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  const Arg ids_arg{kOp, "ids", ids}, weight_arg{kOp, "weight", weight};
  CheckDtype(ids_arg, at::kLong);
  CheckFloating(weight_arg);
  CheckDim(weight_arg, 2);
  CheckSameDevice(ids_arg, weight_arg);
  TORCH_CHECK_VALUE(!padding_idx || (*padding_idx >= 0 && *padding_idx < weight.sym_size(0)), kOp,
                    ": padding_idx is ", padding_idx.value_or(0), ", expected a row of weight, ",
                    weight.sym_sizes());
}

c10::SymDimVector OutputShape(const at::Tensor& ids, const at::Tensor& weight) {
  c10::SymDimVector shape(ids.sym_sizes().begin(), ids.sym_sizes().end());
  shape.push_back(weight.sym_size(1));
  return shape;
}

void CheckBackward(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& weight,
                   OptionalInt padding_idx) {
  Check(ids, weight, padding_idx);
  const Arg dy_arg{kOp, "grad", dy}, weight_arg{kOp, "weight", weight};
  CheckShape(dy_arg, OutputShape(ids, weight), "[..., H]");
  CheckSameDtype(dy_arg, weight_arg);
  CheckSameDevice(dy_arg, weight_arg);
}

at::Tensor Forward(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  Check(ids, weight, padding_idx);
  RecordPath(Op::kEmbedding, PathOf(weight));
  return EmbeddingForward(ids, weight);
}

at::Tensor ForwardMeta(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  Check(ids, weight, padding_idx);
  return at::empty_symint(OutputShape(ids, weight), weight.options());
}

at::Tensor Backward(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& weight,
                    OptionalInt padding_idx) {
  CheckBackward(dy, ids, weight, padding_idx);
  return EmbeddingBackward(dy, ids, weight, padding_idx.value_or(-1));
}

at::Tensor BackwardMeta(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& weight,
                        OptionalInt padding_idx) {
  CheckBackward(dy, ids, weight, padding_idx);
  return at::empty_symint(weight.sym_sizes(), weight.options());
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& ids,
                            const at::Tensor& weight, OptionalInt padding_idx) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({ids, weight});
    ctx->saved_data["padding_idx"] = padding_idx;
    return Embedding(ids, weight, padding_idx);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::embedding_backward");
    const auto saved = ctx->get_saved_variables();
    return {
        {},
        op.call(grads[0], saved[0], saved[1], ctx->saved_data["padding_idx"].toOptional<int64_t>()),
        {}};
  }
};

at::Tensor WithAutograd(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  return Function::apply(ids, weight, padding_idx);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("embedding(Tensor ids, Tensor weight, int? padding_idx=None) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  // The table is here for its shape and dtype alone.
  m.def("embedding_backward(Tensor grad, Tensor ids, Tensor weight, int? padding_idx) -> Tensor");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("embedding", Forward);
  m.impl("embedding_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("embedding", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("embedding", ForwardMeta);
  m.impl("embedding_backward", BackwardMeta);
}

}  // namespace

at::Tensor Embedding(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  static const auto op = FindOp<decltype(Forward)>("liger::embedding");
  return op.call(ids, weight, padding_idx);
}

}  // namespace liger::kernels
