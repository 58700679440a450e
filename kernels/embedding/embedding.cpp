#include "kernels/embedding/embedding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/path_of.h"
#include "kernels/embedding/embedding_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "embedding";
using OptionalInt = std::optional<int64_t>;

// Of a table [V, H].
void CheckPadding(OptionalInt padding_idx, const c10::SymInt& V, const c10::SymInt& H) {
  TORCH_CHECK_VALUE(!padding_idx || (*padding_idx >= 0 && *padding_idx < V), kOp,
                    ": padding_idx is ", padding_idx.value_or(0),
                    ", expected a row of weight, [", V, ", ", H, "]");
}

void Check(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  const Arg ids_arg{kOp, "ids", ids}, weight_arg{kOp, "weight", weight};
  CheckDtype(ids_arg, at::kLong);
  CheckFloating(weight_arg);
  CheckDim(weight_arg, 2);
  CheckSameDevice(ids_arg, weight_arg);
  CheckPadding(padding_idx, weight.sym_size(0), weight.sym_size(1));
}

c10::SymDimVector OutputShape(const at::Tensor& ids, const c10::SymInt& H) {
  c10::SymDimVector shape(ids.sym_sizes().begin(), ids.sym_sizes().end());
  shape.push_back(H);
  return shape;
}

void CheckBackward(const at::Tensor& dy, const at::Tensor& ids, const c10::SymInt& V,
                   OptionalInt padding_idx) {
  const Arg dy_arg{kOp, "grad", dy}, ids_arg{kOp, "ids", ids};
  CheckDtype(ids_arg, at::kLong);
  CheckFloating(dy_arg);
  CheckAtLeastDim(dy_arg, 1);
  CheckShape(dy_arg, OutputShape(ids, dy.sym_size(-1)), "[..., H]");
  CheckSameDevice(dy_arg, ids_arg);
  CheckPadding(padding_idx, V, dy.sym_size(-1));
}

at::Tensor Forward(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  Check(ids, weight, padding_idx);
  RecordPath(Op::kEmbedding, PathOf(weight));
  return EmbeddingForward(ids, weight);
}

at::Tensor ForwardMeta(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  Check(ids, weight, padding_idx);
  return at::empty_symint(OutputShape(ids, weight.sym_size(1)), weight.options());
}

at::Tensor Backward(const at::Tensor& dy, const at::Tensor& ids, c10::SymInt V,
                    OptionalInt padding_idx) {
  CheckBackward(dy, ids, V, padding_idx);
  return EmbeddingBackward(dy, ids, V.guard_int(__FILE__, __LINE__), padding_idx.value_or(-1));
}

at::Tensor BackwardMeta(const at::Tensor& dy, const at::Tensor& ids, c10::SymInt V,
                        OptionalInt padding_idx) {
  CheckBackward(dy, ids, V, padding_idx);
  return at::empty_symint({V, dy.sym_size(-1)}, dy.options());
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& ids,
                            const at::Tensor& weight, OptionalInt padding_idx) {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor y = Embedding(ids, weight, padding_idx);
    // Not the table, which may change before backward.
    ctx->save_for_backward({ids});
    ctx->saved_data["rows"] = weight.sym_size(0);
    ctx->saved_data["padding_idx"] = padding_idx;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::embedding_backward");
    auto& data = ctx->saved_data;
    return {{},
            op.call(grads[0], ctx->get_saved_variables()[0], data["rows"].toSymInt(),
                    data["padding_idx"].toOptional<int64_t>()),
            {}};
  }
};

at::Tensor WithAutograd(const at::Tensor& ids, const at::Tensor& weight, OptionalInt padding_idx) {
  return Function::apply(ids, weight, padding_idx);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("embedding(Tensor ids, Tensor weight, int? padding_idx=None) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def("embedding_backward(Tensor grad, Tensor ids, SymInt rows, int? padding_idx) -> Tensor");
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
