#ifndef LIGER_KERNELS_COMMON_LINEAR_HEAD_H_
#define LIGER_KERNELS_COMMON_LINEAR_HEAD_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "kernels/common/head_options.h"
#include "kernels/common/logits.h"

namespace liger::kernels {

// logits_CV = hidden_CH weight_VH^T + bias_V; all contiguous.
void HeadLogits(const at::Tensor& hidden_CH, const at::Tensor& weight_VH,
                const std::optional<at::Tensor>& bias_V, at::Tensor& logits_CV);

// A linear head over the tokens whose target is not ignored, a chunk of them at a time, so
// that of the logits only [chunk, V] exists. M is the number of those tokens.
class LinearHead {
 public:
  // REQUIRES: CheckLinearHead passed. Throws on a CPU target that is out of range.
  // valid_rows_M: where the target is not ignored, ascending; left out it is looked up, for which
  // a GPU makes the host wait. On a CPU it is compared with the target.
  LinearHead(const char* op, const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
             const at::Tensor& target_T, const std::optional<at::Tensor>& bias_V,
             int64_t ignore_index, const std::optional<at::Tensor>& valid_rows_M = std::nullopt);
  // Of the tokens that valid_T (bool [T]) marks, or of all, without targets.
  LinearHead(const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
             const std::optional<at::Tensor>& bias_V, const std::optional<at::Tensor>& valid_T);

  // Of the tokens at rows_M, in their order, each at most once. Throws on a CPU target among them
  // that is out of range. most_group_rows: of MostGroupRows(), however much memory there is; 0: as
  // that has it.
  static LinearHead OfRows(const char* op, const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                           const at::Tensor& target_T, const at::Tensor& rows_M,
                           int64_t most_group_rows = 0);

  int64_t num_valid() const { return hidden_MH_.size(0); }

  // Calls fn(begin, logits_CV, target_C) for consecutive chunks of valid tokens
  // [begin, begin + C). The logits are a buffer that the next chunk reuses: fn may write it.
  // Without targets target_C is undefined.
  using ChunkFn =
      std::function<void(int64_t begin, at::Tensor& logits_CV, const at::Tensor& target_C)>;
  void ForEachChunk(const ChunkFn& fn) const;
  // The same of one chunk, of at most MostGroupRows(): a little more than ForEachChunk's have,
  // because groups of tokens seldom fill them.
  void ForChunk(int64_t begin, int64_t rows, const ChunkFn& fn) const;
  int64_t MostGroupRows() const;

  // value_M(...) of the valid tokens -> [T, ...], zero at ignored ones.
  at::Tensor ToAllTokens(const at::Tensor& value_M) const;
  // [T, ...] -> [M, ...].
  at::Tensor ToValidTokens(const at::Tensor& value_T) const;

 protected:
  friend class LinearHeadGradients;
  int64_t ChunkRows() const;
  int64_t RowsIn(int64_t cpu_bytes, int64_t gpu_bytes) const;
  void RunChunk(int64_t begin, at::Tensor logits_CV, const ChunkFn& fn) const;
  void KeepRows(const at::Tensor& rows);

  at::Tensor weight_VH_;
  std::optional<at::Tensor> bias_V_;
  int64_t num_tokens_;
  at::Tensor rows_M_;  // undefined when every token is valid, in its place
  at::Tensor hidden_MH_;
  at::Tensor target_M_;  // or undefined
  int64_t most_group_rows_ = 0;
  mutable at::Tensor buffer_;  // of ForChunk's logits
};

// ReduceLogits of what `map` makes of the logits; no row is ignored.
LogitsStats ReduceHeadLogits(const at::Tensor& logits_CV, const at::Tensor& target_C,
                             const HeadMap& map, bool token_stats);

// Sums gradients of the head over chunks of d loss / d logits.
class LinearHeadGradients {
 public:
  // Any of them may be left out. grad_weight and grad_bias are added into; `new_weight`: what
  // grad_weight holds does not count, as that of at::empty. All are multiplied
  // by `scale`: on a GPU in the products' accumulators, because 16-bit gradients of logits times
  // one over the tokens of a step would lose digits (float16 would lose all of them).
  // hidden_dtype: of the hidden's gradient, left out: hidden's. The compute dtype where backward
  // still has to multiply it with the upstream gradient: a 16-bit one would be rounded twice.
  LinearHeadGradients(const LinearHead& head, bool need_hidden,
                      std::optional<at::Tensor> grad_weight_VH,
                      std::optional<at::Tensor> grad_bias_V, double scale = 1,
                      at::ScalarType hidden_dtype = at::ScalarType::Undefined,
                      bool new_weight = false);

  // ReduceLogits of a chunk; its gradient through the products, too, if any() is needed.
  // weight_C: of each row's loss, in the compute dtype; undefined: all 1.
  LogitsStats ReduceAndAdd(int64_t begin, at::Tensor& logits_CV, const at::Tensor& target_C,
                           const at::Tensor& weight_C, bool stats);

  // The chunk's gradient factor * (softmax - onehot), which overwrites its logits, through
  // the three products.
  void AddChunk(int64_t begin, at::Tensor& logits_CV, const at::Tensor& logsumexp_C,
                const at::Tensor& target_C, const at::Tensor& factor_C, const HeadMap& map = {});

  // The same of MixedLogitsGrad; the coefficients, of any dtype, are multiplied by `scale`.
  void AddMixedChunk(int64_t begin, at::Tensor& logits_CV, const at::Tensor& logsumexp_C,
                     const at::Tensor& target_C, LogitsCoefficients coefficients,
                     const LogitsOptions& options);

  // The chunk's d loss / d logits, from which `scale` is still missing, through the products. dz
  // is the logits themselves, or stands beside them in the compute dtype; both are overwritten.
  void AddGradient(int64_t begin, at::Tensor& logits_CV, at::Tensor& dz_CV);

  bool any() const { return grad_hidden_MH_.defined() || sums_head(); }
  // [T, H]; an empty [0] tensor when not needed.
  at::Tensor grad_hidden_TH() const;

 private:
  bool sums_head() const { return grad_weight_VH_.has_value() || grad_bias_V_.has_value(); }
  // Low precision on the CPU: dW takes gradients of the logits that are not rounded yet.
  bool Widens(const at::Tensor& logits) const;
  // `write` puts the logits' gradient into its argument, which may be the logits.
  using WriteFn = std::function<void(const at::Tensor& dz_CV)>;
  void WriteGradient(int64_t begin, at::Tensor& logits_CV, const WriteFn& write);
  void AddProducts(int64_t begin, const at::Tensor& dz_CV);
  // The same of a dz in the compute dtype; the logits' buffer takes it rounded.
  void AddWideProducts(int64_t begin, const at::Tensor& dz_CV, at::Tensor& logits_CV);

  const LinearHead& head_;
  at::Tensor grad_hidden_MH_;
  std::optional<at::Tensor> grad_weight_VH_;
  bool overwrites_weight_;  // the first product does
  std::optional<at::Tensor> grad_bias_V_;
  double factor_;  // of the logits' gradient
  double alpha_;   // of the products
};

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_LINEAR_HEAD_H_
