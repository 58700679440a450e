#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/head_buffers.h"
#include "kernels/common/linear_head.h"
#include "kernels/common/path_of.h"

namespace liger::kernels::flce {
namespace {

constexpr char kOp[] = "fused_linear_cross_entropy";

// Of a chunk of rows: the sum of their losses, float64, without `scale`; statistics if asked for.
struct ChunkLoss {
  at::Tensor sum, entropy, is_top1;
};

// weight_C, float32 (float64 for float64 logits): of each row; undefined: all 1.
at::Tensor WeightedSum(const at::Tensor& loss_C, const at::Tensor& weight_C) {
  return (weight_C.defined() ? loss_C * weight_C : loss_C).sum();
}

ChunkLoss PlainChunk(LinearHeadGradients& gradients, int64_t begin, at::Tensor& logits,
                     const at::Tensor& target, const at::Tensor& weight, bool token_stats) {
  const LogitsStats stats = gradients.ReduceAndAdd(begin, logits, target, weight, token_stats);
  return {WeightedSum(-stats.logp, weight), stats.entropy, stats.is_top1};
}

// With e = label_smoothing, l = lse_square_scale:
//   loss = (1 - e) (lse - z[y]) + e (lse - mean z) + l lse^2
//   d loss / d z[v] = (1 + 2 l lse) p[v] - (1 - e) [v == y] - e / V
ChunkLoss MappedChunk(LinearHeadGradients& gradients, int64_t begin, at::Tensor& logits,
                      const at::Tensor& target, const at::Tensor& weight,
                      const LossOptions& options) {
  const double e = options.label_smoothing, l = options.lse_square_scale;
  const double V = static_cast<double>(logits.size(1));
  LogitsOptions map = options.map.ToLogitsOptions(kNoIgnoreIndex, options.token_stats);
  map.weighted_sum = e > 0;
  const LogitsSums sums = SumLogits(logits, target, map);
  at::Tensor loss = sums.logp * (e - 1);
  if (e > 0) loss = loss + e * (sums.logsumexp - sums.weighted_sum / V);
  if (l > 0) loss = loss + l * sums.logsumexp.square();
  if (gradients.any()) {
    const at::Tensor one =
        weight.defined() ? weight.to(at::kDouble) : at::ones_like(sums.logsumexp);
    gradients.AddMixedChunk(begin, logits, sums.logsumexp, target,
                            {one * (1 + 2 * l * sums.logsumexp), one * (1 - e), one * (e / V)},
                            map);
  }
  return {WeightedSum(loss, weight), sums.entropy, sums.is_top1};
}

// Head gradients are added into grad_weight and grad_bias where given; new_weight: as of
// LinearHeadGradients.
AccumulateResult Run(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                     const OptionalTensor& bias, const OptionalTensor& grad_weight,
                     const OptionalTensor& grad_bias, const LossOptions& loss, bool need_hidden,
                     at::ScalarType hidden_dtype, bool new_weight) {
  RecordPath(Op::kFusedLinearCrossEntropy, PathOf(hidden));
  const LinearHead head(kOp, hidden, weight, target, bias, loss.ignore_index, loss.valid_rows_M);
  LinearHeadGradients gradients(head, need_hidden, grad_weight, grad_bias, loss.scale,
                                hidden_dtype, new_weight);
  const auto options = ComputeOf(hidden);
  const int64_t M = head.num_valid(), stats_rows = loss.token_stats ? M : 0;
  at::Tensor sum = at::zeros({}, options.dtype(at::kDouble));
  const at::Tensor entropy = at::empty({stats_rows}, options);
  const at::Tensor is_top1 = at::empty({stats_rows}, options);
  const at::Tensor weight_M =
      loss.token_weight_T.has_value() ? head.ToValidTokens(*loss.token_weight_T) : at::Tensor();
  head.ForEachChunk([&](int64_t begin, at::Tensor& logits, const at::Tensor& y) {
    const int64_t C = logits.size(0);
    const at::Tensor weight_C = weight_M.defined() ? weight_M.narrow(0, begin, C) : weight_M;
    const ChunkLoss chunk =
        loss.plain() ? PlainChunk(gradients, begin, logits, y, weight_C, loss.token_stats)
                     : MappedChunk(gradients, begin, logits, y, weight_C, loss);
    sum += chunk.sum;
    if (!loss.token_stats) return;
    entropy.narrow(0, begin, C).copy_(chunk.entropy);
    is_top1.narrow(0, begin, C).copy_(chunk.is_top1);
  });
  return {(sum * loss.scale).to(options.dtype().toScalarType()),
          loss.token_stats ? head.ToAllTokens(entropy) : entropy,
          loss.token_stats ? head.ToAllTokens(is_top1) : is_top1, gradients.grad_hidden_TH()};
}

void Check(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
           const OptionalTensor& bias, const LossOptions& options) {
  CheckLinearHead(kOp, hidden, weight, target, bias);
  CheckHeadMap(kOp, options.map);
  CheckValidRows(kOp, options.valid_rows_M, hidden);
  const double e = options.label_smoothing;
  TORCH_CHECK_VALUE(e >= 0 && e <= 1, kOp, ": label_smoothing is ", e,
                    ", expected a value in [0, 1]");
  TORCH_CHECK_VALUE(options.lse_square_scale >= 0, kOp, ": lse_square_scale is ",
                    options.lse_square_scale, ", expected a value >= 0");
  if (!options.token_weight_T.has_value()) return;
  const Arg weight_arg{kOp, "token_weight", *options.token_weight_T};
  CheckDtype(weight_arg, ComputeDtype(hidden));
  CheckShape(weight_arg, target.sym_sizes(), "[T]");
  CheckSameDevice(weight_arg, {kOp, "hidden", hidden});
}

void CheckBuffers(const at::Tensor& hidden, const at::Tensor& weight,
                  const OptionalTensor& grad_weight, const OptionalTensor& grad_bias) {
  CheckHeadBuffer(kOp, "grad_weight", grad_weight, hidden, weight.sym_sizes(), "[V, H]");
  CheckHeadBuffer(kOp, "grad_bias", grad_bias, hidden, weight.sym_sizes().slice(0, 1), "[V]");
}

}  // namespace

ForwardResult Forward(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                      const OptionalTensor& bias, const LossOptions& options, bool need_hidden,
                      bool need_weight, bool need_bias) {
  Check(hidden, weight, target, bias, options);
  OptionalTensor grad_weight, grad_bias;
  if (need_weight) grad_weight = at::empty(weight.sizes(), ComputeOf(hidden));
  if (need_bias && bias.has_value()) grad_bias = at::zeros(bias->sizes(), ComputeOf(hidden));
  auto [loss, entropy, is_top1, grad_hidden] =
      Run(hidden, weight, target, bias, grad_weight, grad_bias, options, need_hidden,
          ComputeDtype(hidden), /*new_weight=*/true);
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
                            const LossOptions& options, bool need_hidden,
                            bool grad_weight_is_new) {
  Check(hidden, weight, target, bias, options);
  CheckBuffers(hidden, weight, grad_weight, grad_bias);
  return Run(hidden, weight, target, bias, grad_weight, grad_bias, options, need_hidden,
             hidden.scalar_type(), grad_weight_is_new);
}

AccumulateResult AccumulateMeta(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& target, const OptionalTensor& bias,
                                const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                                const LossOptions& loss, bool need_hidden, bool) {
  Check(hidden, weight, target, bias, loss);
  CheckBuffers(hidden, weight, grad_weight, grad_bias);
  const auto options = ComputeOf(hidden);
  const auto per_token = [&] {
    return loss.token_stats ? at::empty_symint({hidden.sym_size(0)}, options)
                            : at::empty({0}, options);
  };
  return {at::empty({}, options), per_token(), per_token(),
          need_hidden ? at::empty_symint(hidden.sym_sizes(), hidden.options()) : None(hidden)};
}

ForwardResult ForwardMeta(const at::Tensor& hidden, const at::Tensor& weight,
                          const at::Tensor& target, const OptionalTensor& bias,
                          const LossOptions& options, bool need_hidden, bool need_weight,
                          bool need_bias) {
  auto [loss, entropy, is_top1, grad_hidden] = AccumulateMeta(
      hidden, weight, target, bias, std::nullopt, std::nullopt, options, need_hidden, true);
  return {loss,
          entropy,
          is_top1,
          need_hidden ? at::empty_symint(hidden.sym_sizes(),
                                         hidden.options().dtype(ComputeDtype(hidden)))
                      : grad_hidden,
          need_weight ? at::empty_symint(weight.sym_sizes(), ComputeOf(hidden)) : None(hidden),
          need_bias && bias.has_value() ? at::empty_symint(bias->sym_sizes(), ComputeOf(hidden))
                                        : None(hidden)};
}

}  // namespace liger::kernels::flce
