#include "kernels/common/linear_head.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/linear/linear.h"

namespace liger::kernels {
namespace {

// Of the logits of a chunk. On a CPU, 32 MiB keep the head's share of the peak small while
// each chunk's pass over dW (as large as the weight) is still paid for by its product. On a
// GPU cuBLAS is at its full rate from 2048 rows, and each chunk reads and writes all of dW.
// Groups have more room, since the logits of one that has too little are computed twice.
constexpr int64_t kCpuChunkBytes = int64_t{32} << 20;
constexpr int64_t kCpuGroupBytes = int64_t{128} << 20;
constexpr int64_t kGpuChunkRows = 4096;
constexpr int64_t kGpuChunkBytes = int64_t{900} << 20;
constexpr int64_t kGpuGroupBytes = int64_t{1} << 30;
constexpr int64_t kGpuRowMultiple = 256;

}  // namespace

void HeadLogits(const at::Tensor& hidden, const at::Tensor& weight,
                const std::optional<at::Tensor>& bias, at::Tensor& logits) {
  if (bias.has_value() && (logits.is_cuda() || logits.scalar_type() != ComputeDtype(logits))) {
    // The product's accumulator takes the bias: added later it would round logits twice.
    at::addmm_out(logits, *bias, hidden, weight.t());
    return;
  }
  gemm::XWtOut(hidden, weight, logits);
  if (bias.has_value()) logits.add_(*bias);
}

LinearHead::LinearHead(const char* op, const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                       const at::Tensor& target_T, const std::optional<at::Tensor>& bias_V,
                       int64_t ignore_index, const std::optional<at::Tensor>& valid_rows_M)
    : weight_VH_(weight_VH.contiguous()),
      bias_V_(bias_V),
      num_tokens_(hidden_TH.size(0)),
      hidden_MH_(hidden_TH.contiguous()),
      target_M_(target_T.contiguous()) {
  if (target_T.is_cpu()) CheckTargetRange(op, target_T, weight_VH.size(0), ignore_index);
  const bool look_up = !valid_rows_M.has_value() || target_T.is_cpu();
  const at::Tensor rows =
      look_up ? at::nonzero(target_T != ignore_index).view(-1) : valid_rows_M->contiguous();
  TORCH_CHECK_INDEX(!valid_rows_M.has_value() || !look_up || rows.equal(*valid_rows_M), op,
                    ": valid_rows of shape ", valid_rows_M->sizes(),
                    " are not where target differs from ", ignore_index);
  KeepRows(rows);
}

LinearHead::LinearHead(const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                       const std::optional<at::Tensor>& bias_V,
                       const std::optional<at::Tensor>& valid_T)
    : weight_VH_(weight_VH.contiguous()),
      bias_V_(bias_V),
      num_tokens_(hidden_TH.size(0)),
      hidden_MH_(hidden_TH.contiguous()) {
  if (valid_T.has_value()) KeepRows(at::nonzero(*valid_T).view(-1));
}

LinearHead LinearHead::OfRows(const char* op, const at::Tensor& hidden_TH,
                              const at::Tensor& weight_VH, const at::Tensor& target_T,
                              const at::Tensor& rows_M, int64_t most_group_rows) {
  LinearHead head(hidden_TH, weight_VH, std::nullopt, std::nullopt);
  head.most_group_rows_ = most_group_rows;
  head.rows_M_ = rows_M.contiguous();
  head.hidden_MH_ = head.hidden_MH_.index_select(0, rows_M);
  head.target_M_ = target_T.index_select(0, rows_M);
  if (target_T.is_cpu()) CheckTargetRange(op, head.target_M_, weight_VH.size(0), kNoIgnoreIndex);
  return head;
}

void LinearHead::KeepRows(const at::Tensor& rows) {
  if (rows.size(0) == num_tokens_) return;
  rows_M_ = rows;
  hidden_MH_ = hidden_MH_.index_select(0, rows);
  if (target_M_.defined()) target_M_ = target_M_.index_select(0, rows);
}

int64_t LinearHead::RowsIn(int64_t cpu_bytes, int64_t gpu_bytes) const {
  const bool on_cpu = hidden_MH_.is_cpu();
  const auto element = on_cpu ? sizeof(float) : hidden_MH_.element_size();
  const int64_t row_bytes =
      std::max<int64_t>(1, weight_VH_.size(0) * static_cast<int64_t>(element));
  return on_cpu ? std::max<int64_t>(32, cpu_bytes / row_bytes)
                : std::clamp(gpu_bytes / row_bytes, kGpuRowMultiple, kGpuChunkRows);
}

int64_t LinearHead::MostGroupRows() const {
  const int64_t rows = RowsIn(kCpuGroupBytes, kGpuGroupBytes);
  return most_group_rows_ > 0 ? std::min(most_group_rows_, rows) : rows;
}

int64_t LinearHead::ChunkRows() const {
  const int64_t M = num_valid(), most = RowsIn(kCpuChunkBytes, kGpuChunkBytes);
  const int64_t chunks = std::max<int64_t>(1, (M + most - 1) / most);
  const int64_t rows = (M + chunks - 1) / chunks;
  if (hidden_MH_.is_cpu() || chunks == 1) return rows;
  return (rows + kGpuRowMultiple - 1) / kGpuRowMultiple * kGpuRowMultiple;
}

void LinearHead::ForEachChunk(const ChunkFn& fn) const {
  const int64_t M = num_valid();
  if (M == 0) return;
  const int64_t rows = ChunkRows();
  const at::Tensor buffer = at::empty({rows, weight_VH_.size(0)}, hidden_MH_.options());
  for (int64_t begin = 0; begin < M; begin += rows) {
    RunChunk(begin, buffer.narrow(0, 0, std::min(rows, M - begin)), fn);
  }
}

void LinearHead::RunChunk(int64_t begin, at::Tensor logits, const ChunkFn& fn) const {
  const int64_t C = logits.size(0);
  HeadLogits(hidden_MH_.narrow(0, begin, C), weight_VH_, bias_V_, logits);
  fn(begin, logits, target_M_.defined() ? target_M_.narrow(0, begin, C) : at::Tensor());
}

void LinearHead::ForChunk(int64_t begin, int64_t rows, const ChunkFn& fn) const {
  if (!buffer_.defined()) {
    buffer_ = at::empty({std::min(num_valid(), MostGroupRows()), weight_VH_.size(0)},
                        hidden_MH_.options());
  }
  RunChunk(begin, buffer_.narrow(0, 0, rows), fn);
}

at::Tensor LinearHead::ToAllTokens(const at::Tensor& value_M) const {
  if (!rows_M_.defined()) return value_M;
  std::vector<int64_t> shape = value_M.sizes().vec();
  shape[0] = num_tokens_;
  return at::zeros(shape, value_M.options()).index_copy_(0, rows_M_, value_M);
}

at::Tensor LinearHead::ToValidTokens(const at::Tensor& value_T) const {
  return rows_M_.defined() ? value_T.index_select(0, rows_M_) : value_T;
}

LogitsStats ReduceHeadLogits(const at::Tensor& logits, const at::Tensor& target, const HeadMap& map,
                             bool token_stats) {
  if (map.identity()) return ReduceLogits(logits, target, kNoIgnoreIndex, token_stats);
  const LogitsSums sums =
      SumLogits(logits, target, map.ToLogitsOptions(kNoIgnoreIndex, token_stats));
  return {.logsumexp = sums.logsumexp,
          .logp = sums.logp,
          .entropy = sums.entropy,
          .log_sum_sq = sums.log_sum_sq,
          .mean_logit = sums.mean_logit,
          .is_top1 = sums.is_top1};
}

LinearHeadGradients::LinearHeadGradients(const LinearHead& head, bool need_hidden,
                                         std::optional<at::Tensor> grad_weight_VH,
                                         std::optional<at::Tensor> grad_bias_V, double scale,
                                         at::ScalarType hidden_dtype, bool new_weight)
    : head_(head),
      grad_weight_VH_(std::move(grad_weight_VH)),
      overwrites_weight_(new_weight && head.num_valid() > 0),
      grad_bias_V_(std::move(grad_bias_V)),
      factor_(head.hidden_MH_.is_cuda() ? 1 : scale),
      alpha_(head.hidden_MH_.is_cuda() ? scale : 1) {
  if (new_weight && !overwrites_weight_ && grad_weight_VH_.has_value()) grad_weight_VH_->zero_();
  if (!need_hidden) return;
  const at::Tensor& hidden = head.hidden_MH_;
  const bool given = hidden_dtype != at::ScalarType::Undefined;
  grad_hidden_MH_ = at::empty(hidden.sizes(),
                              hidden.options().dtype(given ? hidden_dtype : hidden.scalar_type()));
}

bool LinearHeadGradients::Widens(const at::Tensor& logits) const {
  return sums_head() && logits.is_cpu() && logits.scalar_type() != ComputeDtype(logits);
}

LogitsStats LinearHeadGradients::ReduceAndAdd(int64_t begin, at::Tensor& logits,
                                              const at::Tensor& target, const at::Tensor& weight,
                                              bool stats) {
  if (!any()) return ReduceLogits(logits, target, kNoIgnoreIndex, stats);
  const at::Tensor factor =
      weight.defined()
          ? weight * factor_
          : at::full({logits.size(0)}, factor_, logits.options().dtype(ComputeDtype(logits)));
  if (Widens(logits)) {
    LogitsStats out = ReduceLogits(logits, target, kNoIgnoreIndex, stats);
    AddChunk(begin, logits, out.logsumexp, target, factor);
    return out;
  }
  LogitsStats out = CrossEntropyAndGrad(logits, target, factor, kNoIgnoreIndex, stats, logits);
  AddProducts(begin, logits);
  return out;
}

void LinearHeadGradients::AddChunk(int64_t begin, at::Tensor& logits, const at::Tensor& logsumexp,
                                   const at::Tensor& target, const at::Tensor& factor,
                                   const HeadMap& map) {
  WriteGradient(begin, logits, [&](const at::Tensor& dz) {
    if (map.identity())
      return CrossEntropyGrad(logits, logsumexp, target, factor, kNoIgnoreIndex, dz);
    MixedLogitsGrad(logits, logsumexp, target, {factor, factor, at::zeros_like(factor)},
                    map.ToLogitsOptions(kNoIgnoreIndex, /*token_stats=*/false), dz);
  });
}

void LinearHeadGradients::AddMixedChunk(int64_t begin, at::Tensor& logits,
                                        const at::Tensor& logsumexp, const at::Tensor& target,
                                        LogitsCoefficients coefficients,
                                        const LogitsOptions& options) {
  for (at::Tensor* k : {&coefficients.softmax, &coefficients.onehot, &coefficients.smooth}) {
    *k = k->mul(factor_).to(ComputeDtype(logits));
  }
  WriteGradient(begin, logits, [&](const at::Tensor& dz) {
    MixedLogitsGrad(logits, logsumexp, target, coefficients, options, dz);
  });
}

void LinearHeadGradients::WriteGradient(int64_t begin, at::Tensor& logits, const WriteFn& write) {
  if (!Widens(logits)) {
    write(logits);
    return AddProducts(begin, logits);
  }
  const at::Tensor dz = at::empty(logits.sizes(), logits.options().dtype(ComputeDtype(logits)));
  write(dz);
  AddWideProducts(begin, dz, logits);
}

void LinearHeadGradients::AddGradient(int64_t begin, at::Tensor& logits, at::Tensor& dz) {
  if (factor_ != 1) dz.mul_(factor_);
  if (Widens(logits)) return AddWideProducts(begin, dz, logits);
  if (dz.scalar_type() == logits.scalar_type()) return AddProducts(begin, dz);
  logits.copy_(dz);
  AddProducts(begin, logits);
}

void LinearHeadGradients::AddWideProducts(int64_t begin, const at::Tensor& dz, at::Tensor& logits) {
  if (grad_weight_VH_.has_value()) {
    gemm::AddGtX(dz, head_.hidden_MH_.narrow(0, begin, dz.size(0)), *grad_weight_VH_, /*alpha=*/1,
                 std::exchange(overwrites_weight_, false));
  }
  if (grad_bias_V_.has_value()) grad_bias_V_->add_(dz.sum(0));
  if (!grad_hidden_MH_.defined()) return;
  at::Tensor out = grad_hidden_MH_.narrow(0, begin, dz.size(0));
  if (out.scalar_type() == dz.scalar_type()) return gemm::GWOut(dz, head_.weight_VH_, out);
  logits.copy_(dz);
  gemm::GWOut(logits, head_.weight_VH_, out);
}

void LinearHeadGradients::AddProducts(int64_t begin, const at::Tensor& dz) {
  const int64_t C = dz.size(0);
  if (grad_weight_VH_.has_value()) {
    gemm::AddGtX(dz, head_.hidden_MH_.narrow(0, begin, C), *grad_weight_VH_, alpha_,
                 std::exchange(overwrites_weight_, false));
  }
  if (grad_bias_V_.has_value()) {
    grad_bias_V_->add_(dz.sum(0, false, ComputeDtype(dz)), alpha_);
  }
  if (grad_hidden_MH_.defined()) {
    at::Tensor out = grad_hidden_MH_.narrow(0, begin, C);
    gemm::GWOut(dz, head_.weight_VH_, out, alpha_);
  }
}

at::Tensor LinearHeadGradients::grad_hidden_TH() const {
  if (!grad_hidden_MH_.defined()) return at::empty({0}, head_.hidden_MH_.options());
  return head_.ToAllTokens(grad_hidden_MH_);
}

}  // namespace liger::kernels
