#ifndef LIGER_KERNELS_FUSED_LINEAR_LOSS_FUSED_LINEAR_LOSS_H_
#define LIGER_KERNELS_FUSED_LINEAR_LOSS_FUSED_LINEAR_LOSS_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

namespace liger::kernels {

// Which tokens a loss compares with each other, as those of a pair of answers: group g has the rows
// rows_M[offsets_G1[g]] to rows_M[offsets_G1[g + 1] - 1] of hidden.
struct TokenGroups {
  at::Tensor rows_M;                // int64 on hidden's device; each row at most once, in any order
  std::vector<int64_t> offsets_G1;  // from 0 to M, ascending
};

// The tokens of groups [begin, end), all [C] in the order of rows_M, from its position `first` on;
// float32 (float64 for float64 inputs). As FusedLinearLogprobOutput's; only logp_C is attached,
// the last four are undefined unless token_stats.
struct GroupTokens {
  int64_t begin, end, first;
  at::Tensor logp_C;
  at::Tensor entropy_C, log_sum_sq_C, mean_logit_C, is_top1_C;
};

// The share of the loss of these groups, a scalar of any floating dtype: a function of their tokens
// alone, and the loss is the sum over the groups. It is called for consecutive ranges of groups;
// how they are cut is up to the memory and must not matter. On a GPU it must not wait.
using GroupLoss = std::function<at::Tensor(const GroupTokens& tokens)>;

struct FusedLinearLossOptions {
  // Also compute the four statistics.
  bool token_stats = false;
  // When given, forward adds the head's gradient for an upstream gradient of 1 into this contiguous
  // float32 [V, H] buffer, and none flows to weight_VH through autograd. Backward then throws for
  // another upstream gradient (on a CPU; on a GPU that would make the host wait).
  std::optional<at::Tensor> grad_weight_VH;
  bool grad_weight_is_new = false;  // as of FusedLinearCrossEntropyOptions
  // Of the logits, so many rows at once at most; 0: as the memory allows.
  int64_t most_rows = 0;
  double softcap = 0;  // as of FusedLinearLogprobOptions
  double temperature = 1;
};

struct FusedLinearLossOutput {
  at::Tensor loss;  // float32 (float64 for float64 inputs) scalar
  // [T], without gradients; 0 where a token is in no group.
  at::Tensor logp_T;
  at::Tensor entropy_T, log_sum_sq_T, mean_logit_T, is_top1_T;  // undefined unless token_stats
};

// A loss of the log-probabilities of targets under a linear head, by 3 matrix products where
// FusedLinearLogprob and its backward take 4: the logits of a chunk of whole groups stand until the
// loss of these groups has said what it needs of their gradient.
//   loss = sum over groups of loss_fn(logp of their tokens), logp as of FusedLinearLogprob
// Differentiable in hidden and weight. No dispatcher op, because it takes a function; never holds
// [T, V]: chunks have up to 4096 rows and 1 GiB on a GPU, 128 MiB on a CPU, and the logits of a
// group that is longer are computed twice.
//   hidden_TH [T, H], weight_VH [V, H]: one dtype and device
//   target_T  int64 [T], in [0, V) where a group has the token; others are not read
// Throws c10::Error as FusedLinearCrossEntropy does, and for groups whose offsets are not ascending
// from 0 to M, rows that are not int64 [M] on hidden's device, or a loss that is no scalar.
FusedLinearLossOutput FusedLinearLoss(const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                                      const at::Tensor& target_T, const TokenGroups& groups,
                                      const GroupLoss& loss_fn,
                                      const FusedLinearLossOptions& options = {});

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_FUSED_LINEAR_LOSS_FUSED_LINEAR_LOSS_H_
