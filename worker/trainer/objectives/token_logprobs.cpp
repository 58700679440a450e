#include "worker/trainer/objectives/token_logprobs.h"

#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "worker/trainer/error.h"

namespace liger::trainer {

ModelInput ToModelInput(const Batch& batch, const CausalLM& model) {
  const at::Device device = model.device();
  SequenceLayout sequences = SequenceLayout::FromCuSeqlens(batch.cu_seqlens_S1, device);
  if (model.kernels().shared_prefixes) {
    sequences.shared = SharedPrefixes::Find(batch.input_ids_T, sequences.offsets_S1, device);
  }
  const auto computed = [&](const at::Tensor& x_T) {
    const at::Tensor x_device_T = x_T.to(device, at::kLong, /*non_blocking=*/true);
    return sequences.shared ? x_device_T.index_select(0, sequences.shared->owner_U) : x_device_T;
  };
  return {computed(batch.input_ids_T), computed(batch.positions_T), batch.max_seqlen,
          std::move(sequences)};
}

at::Tensor NextTokenTargets(const at::Tensor& labels_T, const at::Tensor& cu_seqlens_S1) {
  at::Tensor targets_T = at::full_like(labels_T, kIgnoredLabel);
  const int64_t tokens = labels_T.size(0);
  if (tokens == 0) return targets_T;
  targets_T.slice(0, 0, tokens - 1).copy_(labels_T.slice(0, 1));
  const at::Tensor last_S = cu_seqlens_S1.slice(0, 1).to(at::kLong) - 1;
  return targets_T.index_fill_(0, last_S, kIgnoredLabel);
}

bool FusesLogprobs(const CausalLM& model) {
  // The fused head knows no softcap yet.
  return model.kernels().fused_linear_logprob && model.config().final_logit_softcapping == 0;
}

at::Tensor TargetRows(const at::Tensor& targets_T) {
  return targets_T.ne(kIgnoredLabel).nonzero().view(-1);
}

namespace {

// The plain head, which knows a softcap, over the rows that have a target alone.
TokenLogprobs CappedLogprobs(CausalLM& model, const at::Tensor& hidden_TD,
                             const at::Tensor& targets_T,
                             const kernels::FusedLinearLogprobOptions& options) {
  const at::Tensor rows_M = TargetRows(targets_T);
  const auto out = kernels::baseline::Logprob(model.Logits(hidden_TD.index_select(0, rows_M)),
                                              targets_T.index_select(0, rows_M), options);
  const auto back = [&](const at::Tensor& x_M) {
    if (!x_M.defined()) return x_M;
    return at::zeros({targets_T.size(0)}, x_M.options()).index_copy(0, rows_M, x_M);
  };
  return {back(out.logp_T), back(out.mean_logit_T), back(out.entropy_T), back(out.log_sum_sq_T),
          back(out.is_top1_T)};
}

}  // namespace

TokenLogprobs ComputeTokenLogprobs(CausalLM& model, const at::Tensor& hidden_TD,
                                   const at::Tensor& targets_T, const StepContext& context,
                                   bool stats) {
  kernels::FusedLinearLogprobOptions options;
  options.ignore_index = kIgnoredLabel;
  options.token_stats = stats;
  options.grad_weight_VH = context.head_gradient_VD;
  const bool capped = model.config().final_logit_softcapping > 0;
  if (capped && model.kernels().fused_linear_logprob) {
    return CappedLogprobs(model, hidden_TD, targets_T, options);
  }
  const auto out = FusesLogprobs(model)
                       ? kernels::FusedLinearLogprob(hidden_TD, model.HeadWeight(), targets_T,
                                                     std::nullopt, options)
                       : kernels::baseline::Logprob(model.Logits(hidden_TD), targets_T, options);
  return {out.logp_T, out.mean_logit_T, out.entropy_T, out.log_sum_sq_T, out.is_top1_T};
}

at::Tensor DetachedLogprobs(CausalLM& model, const ModelInput& input, const at::Tensor& targets_T) {
  const at::NoGradGuard no_grad;
  return ComputeTokenLogprobs(model, model.Hidden(input), targets_T, {}, /*stats=*/false).logp_T;
}

AnswerTargets MakeAnswerTargets(const Batch& batch, const char* row) {
  AnswerTargets out;
  out.targets_T = NextTokenTargets(batch.labels_T, batch.cu_seqlens_S1);
  const SequenceLayout host = SequenceLayout::FromCuSeqlens(batch.cu_seqlens_S1, at::kCPU);
  out.counts_S = SumBySequence(out.targets_T.ne(kIgnoredLabel).to(at::kDouble), host);
  if (row != nullptr && out.counts_S.numel() > 0 && out.counts_S.min().item<double>() == 0) {
    throw DataError(std::string(row) + " has an answer without a token",
                    "Raise training.max_length or remove rows with empty answers.");
  }
  return out;
}

at::Tensor SumBySequence(const at::Tensor& values_T, const SequenceLayout& sequences) {
  const at::Tensor lengths_S = sequences.cu_seqlens_S1.diff().to(at::kLong);
  const at::Tensor sequence_of_T =
      at::repeat_interleave(lengths_S, std::optional<int64_t>(sequences.num_tokens()));
  return at::zeros({sequences.num_sequences()}, values_T.options())
      .index_add(0, sequence_of_T, values_T);
}

}  // namespace liger::trainer
