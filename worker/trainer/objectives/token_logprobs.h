#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_TOKEN_LOGPROBS_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_TOKEN_LOGPROBS_H_

#include "worker/trainer/data/batch.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// A batch on the model's device, or the part of it that this place of the model's sequence
// group computes. Without one, what its sequences begin with alike is to be computed once, if
// the model's kernels say so and `may_share`.
ModelInput ToModelInput(const Batch& batch, const CausalLM& model, bool may_share = true);

// What each token is to predict [T]: the label of the token after it, and
// kIgnoredLabel at the last token of each sequence. Works for labels_T and for
// input_ids_T (every token a target) alike.
at::Tensor NextTokenTargets(const at::Tensor& labels_T, const at::Tensor& cu_seqlens_S1);

// Targets on a device.
struct Targets {
  at::Tensor targets_T;
  at::Tensor rows_M;  // where one is not ignored; fused heads need not look for them, then

  // host_targets_T is on the host, so that finding the rows waits for no device.
  static Targets ToDevice(const at::Tensor& host_targets_T, at::Device device);
};

// Per-token log-probabilities of targets under the model's head, with what the
// objectives' metrics need. All [T] and fp32, 0 where the target is ignored;
// only logp_T is attached.
struct TokenLogprobs {
  at::Tensor logp_T;
  at::Tensor mean_logit_T;  // mean over the vocabulary
  at::Tensor entropy_T;     // nats
  at::Tensor log_sum_sq_T;  // log of the sum over the vocabulary of p^2
  at::Tensor is_top1_T;     // 1 where the target has the highest logit
};

// LIGER: fused head, never holding the logits; for references, as losses have
// their own (row_loss.h). BASELINE: logits, then log-softmax and gather, as TRL.
// Without `stats` only logp_T is there.
TokenLogprobs ComputeTokenLogprobs(CausalLM& model, const at::Tensor& hidden_TD,
                                   const Targets& targets, bool stats = true);

// The targets of a batch's answers (what its labels name), and how many each of
// its sequences has. Throws DataError when one has none; `row` is what messages
// call a sequence's row; nullptr: none is fine.
struct AnswerTargets {
  at::Tensor targets_T;  // on the host
  at::Tensor counts_S;   // fp64, on the host
};
AnswerTargets MakeAnswerTargets(const Batch& batch, const char* row);

// What the chosen answers of a batch of pairs have to predict; host only.
int64_t CountChosenTargets(const Batch& batch);

// Times the sum of a micro-batch's token losses: so that its mean over all tokens of the step
// (StepContext::loss_tokens), taken like the pairs' losses as a mean over `pairs` that is
// weighted by them, is exact however the step is cut into micro-batches.
double StepMeanScale(const StepContext& context, int64_t pairs);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_TOKEN_LOGPROBS_H_
