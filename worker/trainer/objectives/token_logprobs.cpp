#include "worker/trainer/objectives/token_logprobs.h"

#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "worker/trainer/error.h"

namespace liger::trainer {

ModelInput ToModelInput(const Batch& batch, const CausalLM& model, bool may_share) {
  const at::Device device = model.device();
  SequenceLayout sequences =
      SequenceLayout::FromCuSeqlens(batch.cu_seqlens_S1, device, model.sequence_group());
  if (may_share && model.kernels().shared_prefixes && !sequences.group) {
    sequences.shared = SharedPrefixes::Find(batch.input_ids_T, sequences.offsets_S1, device);
  }
  const auto computed = [&](const at::Tensor& x_T) {
    const at::Tensor x_device_T =
        sequences.Own(x_T, /*fill=*/0).to(device, at::kLong, /*non_blocking=*/true);
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

Targets Targets::ToDevice(const at::Tensor& host_targets_T, at::Device device) {
  TORCH_CHECK(host_targets_T.is_cpu(), "targets must still be on the host");
  const at::Tensor rows_M = host_targets_T.ne(kIgnoredLabel).nonzero().view(-1);
  return {host_targets_T.to(device, at::kLong, /*non_blocking=*/true),
          rows_M.to(device, at::kLong, /*non_blocking=*/true)};
}

TokenLogprobs ComputeTokenLogprobs(CausalLM& model, const at::Tensor& hidden_TD,
                                   const Targets& targets, bool stats) {
  kernels::FusedLinearLogprobOptions options;
  options.ignore_index = kIgnoredLabel;
  options.token_stats = stats;
  kernels::FusedLinearLogprobOutput out;
  if (model.kernels().fused_linear_logprob) {
    options.valid_rows_M = targets.rows_M;
    options.softcap = model.config().final_logit_softcapping;
    out = kernels::FusedLinearLogprob(hidden_TD, model.HeadWeight(), targets.targets_T,
                                      std::nullopt, options);
  } else {
    out = kernels::baseline::Logprob(model.Logits(hidden_TD), targets.targets_T, options);
  }
  return {out.logp_T, out.mean_logit_T, out.entropy_T, out.log_sum_sq_T, out.is_top1_T};
}

AnswerTargets MakeAnswerTargets(const Batch& batch, const char* row) {
  AnswerTargets out;
  out.targets_T = NextTokenTargets(batch.labels_T, batch.cu_seqlens_S1);
  const at::Tensor lengths_S = batch.cu_seqlens_S1.diff().to(at::kLong);
  out.counts_S = at::zeros({lengths_S.size(0)}, at::kDouble)
                     .index_add_(0, at::repeat_interleave(lengths_S),
                                 out.targets_T.ne(kIgnoredLabel).to(at::kDouble));
  if (row != nullptr && out.counts_S.numel() > 0 && out.counts_S.min().item<double>() == 0) {
    throw DataError(std::string(row) + " has an answer without a token",
                    "Raise training.max_length or remove rows with empty answers.");
  }
  return out;
}

int64_t CountChosenTargets(const Batch& batch) {
  const at::Tensor targets_T = NextTokenTargets(batch.labels_T, batch.cu_seqlens_S1);
  const int64_t end = batch.cu_seqlens_S1[batch.num_rows].item<int64_t>();
  return targets_T.slice(0, 0, end).ne(kIgnoredLabel).sum().item<int64_t>();
}

double StepMeanScale(const StepContext& context, int64_t pairs) {
  return static_cast<double>(context.rows) /
         static_cast<double>(pairs * std::max<int64_t>(context.loss_tokens, 1));
}

}  // namespace liger::trainer
