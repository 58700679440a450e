#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/path_of.h"
#include "kernels/common/linear_head.h"

namespace liger::kernels::flce {
namespace {

constexpr char kOp[] = "fused_linear_cross_entropy";

at::Tensor None(const at::Tensor& like) { return at::empty({0}, like.options()); }

c10::TensorOptions Compute(const at::Tensor& hidden) {
  return hidden.options().dtype(ComputeDtype(hidden));
}

// Of the hidden's gradient until backward multiplies it with the upstream one: on a GPU a 16-bit
// one would be rounded twice.
at::ScalarType KeptDtype(const at::Tensor& hidden) {
  return hidden.device().is_cuda() ? ComputeDtype(hidden) : hidden.scalar_type();
}

// Head gradients are added into grad_weight and grad_bias where given.
AccumulateResult Run(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                     const OptionalTensor& bias, const OptionalTensor& grad_weight,
                     const OptionalTensor& grad_bias, double scale, int64_t ignore_index,
                     bool token_stats, bool need_hidden, at::ScalarType hidden_dtype) {
  RecordPath(Op::kFusedLinearCrossEntropy, PathOf(hidden));
  const LinearHead head(kOp, hidden, weight, target, bias, ignore_index);
  LinearHeadGradients gradients(head, need_hidden, grad_weight, grad_bias, scale,
                                hidden_dtype);
  const auto options = Compute(hidden);
  const int64_t M = head.num_valid();
  at::Tensor logp_sum = at::zeros({}, options.dtype(at::kDouble));
  const at::Tensor entropy = at::empty({token_stats ? M : 0}, options);
  const at::Tensor is_top1 = at::empty({token_stats ? M : 0}, options);
  head.ForEachChunk([&](int64_t begin, at::Tensor& logits, const at::Tensor& y) {
    const int64_t C = logits.size(0);
    const LogitsStats stats = gradients.ReduceAndAdd(begin, logits, y, token_stats);
    logp_sum += stats.logp.sum();
    if (token_stats) {
      entropy.narrow(0, begin, C).copy_(stats.entropy);
      is_top1.narrow(0, begin, C).copy_(stats.is_top1);
    }
  });
  return {(logp_sum * -scale).to(options.dtype().toScalarType()),
          token_stats ? head.ToAllTokens(entropy) : entropy,
          token_stats ? head.ToAllTokens(is_top1) : is_top1, gradients.grad_hidden_TH()};
}

void CheckBuffer(const char* name, const OptionalTensor& buffer, const at::Tensor& hidden,
                 c10::SymIntArrayRef shape, const char* meaning) {
  if (!buffer.has_value()) return;
  const Arg arg{kOp, name, *buffer};
  CheckDtype(arg, ComputeDtype(hidden));
  CheckShape(arg, shape, meaning);
  CheckSameDevice(arg, {kOp, "hidden", hidden});
  CheckContiguous(arg);
}

void CheckBuffers(const at::Tensor& hidden, const at::Tensor& weight,
                  const OptionalTensor& grad_weight, const OptionalTensor& grad_bias) {
  CheckBuffer("grad_weight", grad_weight, hidden, weight.sym_sizes(), "[V, H]");
  CheckBuffer("grad_bias", grad_bias, hidden, weight.sym_sizes().slice(0, 1), "[V]");
}

}  // namespace

ForwardResult Forward(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                      const OptionalTensor& bias, double scale, int64_t ignore_index,
                      bool token_stats, bool need_hidden, bool need_weight, bool need_bias) {
  CheckLinearHead(kOp, hidden, weight, target, bias);
  OptionalTensor grad_weight, grad_bias;
  if (need_weight) grad_weight = at::zeros(weight.sizes(), Compute(hidden));
  if (need_bias && bias.has_value()) grad_bias = at::zeros(bias->sizes(), Compute(hidden));
  auto [loss, entropy, is_top1, grad_hidden] =
      Run(hidden, weight, target, bias, grad_weight, grad_bias, scale, ignore_index, token_stats,
          need_hidden, KeptDtype(hidden));
  return {loss,
          entropy,
          is_top1,
          grad_hidden,
          grad_weight.value_or(None(hidden)),
          grad_bias.value_or(None(hidden))};
}

AccumulateResult Accumulate(const at::Tensor& hidden, const at::Tensor& weight,
                            const at::Tensor& target, const OptionalTensor& bias,
                            const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                            double scale, int64_t ignore_index, bool token_stats,
                            bool need_hidden) {
  CheckLinearHead(kOp, hidden, weight, target, bias);
  CheckBuffers(hidden, weight, grad_weight, grad_bias);
  return Run(hidden, weight, target, bias, grad_weight, grad_bias, scale, ignore_index, token_stats,
             need_hidden, hidden.scalar_type());
}

AccumulateResult AccumulateMeta(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& target, const OptionalTensor& bias,
                                const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                                double, int64_t, bool token_stats, bool need_hidden) {
  CheckLinearHead(kOp, hidden, weight, target, bias);
  CheckBuffers(hidden, weight, grad_weight, grad_bias);
  const auto options = Compute(hidden);
  const auto per_token = [&] {
    return token_stats ? at::empty_symint({hidden.sym_size(0)}, options) : at::empty({0}, options);
  };
  return {at::empty({}, options), per_token(), per_token(),
          need_hidden ? at::empty_symint(hidden.sym_sizes(), hidden.options()) : None(hidden)};
}

ForwardResult ForwardMeta(const at::Tensor& hidden, const at::Tensor& weight,
                          const at::Tensor& target, const OptionalTensor& bias, double scale,
                          int64_t ignore_index, bool token_stats, bool need_hidden,
                          bool need_weight, bool need_bias) {
  auto [loss, entropy, is_top1, grad_hidden] =
      AccumulateMeta(hidden, weight, target, bias, std::nullopt, std::nullopt, scale, ignore_index,
                     token_stats, need_hidden);
  return {loss,
          entropy,
          is_top1,
          need_hidden ? at::empty_symint(hidden.sym_sizes(),
                                         hidden.options().dtype(KeptDtype(hidden)))
                      : grad_hidden,
          need_weight ? at::empty_symint(weight.sym_sizes(), Compute(hidden)) : None(hidden),
          need_bias && bias.has_value() ? at::empty_symint(bias->sym_sizes(), Compute(hidden))
                                        : None(hidden)};
}

}  // namespace liger::kernels::flce
