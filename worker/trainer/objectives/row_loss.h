#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_ROW_LOSS_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_ROW_LOSS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {

// Losses that compare rows (pairs, labelled sequences), and the head below them. Beside
// causal_lm.h's legend:
//   R  rows of the batch, or a range of them
//   Q  sequences a row: 2 of a pair, chosen before rejected; sequence q R + r of the batch is the
//      q-th of row r
//   M  tokens that have a target, row by row, in a row sequence by sequence; C: those of a range
//
// With a sequence group, M and C are of this place's tokens. RowTokens::Sum sums over the group, so
// that all its places have the same rows and losses; the gradient that a loss has by its own tokens
// is all that a place needs. What is summed over ranks counts a place's share of it (TakeShare).

// What a batch's rows are to predict.
struct RowTargets {
  // weights_T, fp64 on the host, is the objective's own; undefined: it has none.
  RowTargets(const AnswerTargets& answers, const at::Tensor& weights_T,
             const SequenceLayout& sequences, int64_t num_rows, at::Device device);

  int64_t num_rows() const { return counts_QR.size(1); }
  int64_t sequences_per_row() const { return counts_QR.size(0); }

  Targets targets;                  // in the order of the batch's tokens
  at::Tensor tokens_M, sequence_M;  // of the batch; q + Q r
  at::Tensor weight_M;              // or undefined
  at::Tensor counts_QR;             // answers' tokens, fp64
  std::vector<int64_t> offsets_R1;  // where each row's tokens begin in M
  std::shared_ptr<const SequenceGroup> group;
};

// Rows [begin, end) once the log-probabilities of their targets are known. All [C]; logp_C alone
// is attached, and that only within a loss.
struct RowTokens {
  int64_t begin, end;
  at::Tensor logp_C;
  at::Tensor log_sum_sq_C, mean_logit_C, entropy_C, is_top1_C;  // as of TokenLogprobs
  at::Tensor sequence_C;                                        // q + Q (r - begin)
  at::Tensor weight_C;                                          // RowTargets' or undefined
  at::Tensor counts_QR;
  const SequenceGroup* group = nullptr;

  int64_t num_rows() const { return end - begin; }
  // Of a mean over these rows in the step's mean over all of its rows.
  double ShareOf(const StepContext& context) const {
    return static_cast<double>(num_rows()) / static_cast<double>(context.rows);
  }
  // Over each sequence's tokens, with a group those of all places: [C] to [Q, R], fp64.
  at::Tensor Sum(const at::Tensor& x_C) const;
  at::Tensor WeightedSum(const at::Tensor& x_C) const;
};

// Of the whole batch, without gradients and statistics, as of a frozen reference.
RowTokens DetachedRows(CausalLM& model, const ModelInput& input, const RowTargets& targets);

// What some rows add to the step's loss, a scalar.
using RowLoss = std::function<at::Tensor(const RowTokens& rows)>;

struct RowLossOutput {
  at::Tensor loss;  // attached unless gradients are off
  RowTokens all;    // of the whole batch, detached
};

// `loss` of all rows under the model's head. Where `rows_apart`, that is a sum over them, and
// `loss` is asked about ranges of rows: a fused head (kernels::FusedLinearLoss) then has the
// gradients before the next range needs the room of their logits. What compares all rows with each
// other is asked once; only if there is no room for the logits of all are they computed again.
RowLossOutput ComputeRowLoss(CausalLM& model, const at::Tensor& hidden_TD,
                             const RowTargets& targets, const StepContext& context,
                             const RowLoss& loss, bool rows_apart = true);

// Of a loss and metrics that every place of the model's sequence group has whole, so much that the
// sums over the places are they: the loss's value is divided by their number, its gradients, which
// are of own tokens, are not. Without a group nothing is done.
void TakeShare(const CausalLM& model, LossOutput& out);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_ROW_LOSS_H_
