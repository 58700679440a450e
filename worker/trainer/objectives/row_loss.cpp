#include "worker/trainer/objectives/row_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/fused_linear_loss/fused_linear_loss.h"

namespace liger::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// The sum over a group, of which each place has made the loss by itself: the gradient by its own
// part is that by the sum.
class GroupSum : public torch::autograd::Function<GroupSum> {
 public:
  static at::Tensor forward(AutogradContext*, const at::Tensor& x, const SequenceGroup* group) {
    at::Tensor sum = x.clone();
    group->Sum(sum);
    return sum;
  }
  static tensor_list backward(AutogradContext*, const tensor_list& grads) {
    return {grads[0], at::Tensor()};
  }
};

// The tokens of rows [begin, end), which are [first, first + C) of M, without their values.
RowTokens Range(const RowTargets& targets, int64_t begin, int64_t end, int64_t first,
                int64_t count) {
  RowTokens rows{.begin = begin, .end = end};
  rows.sequence_C =
      targets.sequence_M.narrow(0, first, count) - begin * targets.sequences_per_row();
  if (targets.weight_M.defined()) rows.weight_C = targets.weight_M.narrow(0, first, count);
  rows.counts_QR = targets.counts_QR.slice(1, begin, end);
  rows.group = targets.group.get();
  return rows;
}

RowTokens WholeBatch(const RowTargets& targets, const TokenLogprobs& tokens) {
  RowTokens rows = Range(targets, 0, targets.num_rows(), 0, targets.tokens_M.size(0));
  const auto by_row = [&](const at::Tensor& x_T) {
    return x_T.defined() ? x_T.index_select(0, targets.tokens_M) : x_T;
  };
  rows.logp_C = by_row(tokens.logp_T);
  rows.log_sum_sq_C = by_row(tokens.log_sum_sq_T);
  rows.mean_logit_C = by_row(tokens.mean_logit_T);
  rows.entropy_C = by_row(tokens.entropy_T);
  rows.is_top1_C = by_row(tokens.is_top1_T);
  return rows;
}

RowLossOutput FusedRowLoss(CausalLM& model, const at::Tensor& hidden_TD, const RowTargets& targets,
                           const StepContext& context, const RowLoss& loss, bool rows_apart) {
  const int64_t num_rows = targets.num_rows();
  kernels::FusedLinearLossOptions options;
  options.token_stats = true;
  context.LendHeadGradient(options);
  options.most_rows = context.most_logits_rows;
  options.softcap = model.config().final_logit_softcapping;
  kernels::TokenGroups groups{targets.tokens_M, targets.offsets_R1};
  // Sums over a group's places are as many at all of them.
  if (targets.group) rows_apart = false;
  if (!rows_apart) groups.offsets_G1 = {0, targets.offsets_R1.back()};
  const auto of_groups = [&](const kernels::GroupTokens& tokens) {
    RowTokens rows = Range(targets, rows_apart ? tokens.begin : 0,
                           rows_apart ? tokens.end : num_rows, tokens.first, tokens.logp_C.size(0));
    rows.logp_C = tokens.logp_C;
    rows.log_sum_sq_C = tokens.log_sum_sq_C;
    rows.mean_logit_C = tokens.mean_logit_C;
    rows.entropy_C = tokens.entropy_C;
    rows.is_top1_C = tokens.is_top1_C;
    return loss(rows);
  };
  const kernels::FusedLinearLossOutput out = kernels::FusedLinearLoss(
      hidden_TD, model.HeadWeight(), targets.targets.targets_T, groups, of_groups, options);
  return {out.loss, WholeBatch(targets, {out.logp_T, out.mean_logit_T, out.entropy_T,
                                         out.log_sum_sq_T, out.is_top1_T})};
}

// At a place of a group that has no targets. Attached, since the backward pass is of all places.
TokenLogprobs NothingToPredict(const at::Tensor& hidden_TD) {
  const at::Tensor logp_T = (hidden_TD.select(1, 0) * 0).to(at::kFloat);
  const at::Tensor zeros_T = logp_T.detach();
  return {logp_T, zeros_T, zeros_T, zeros_T, zeros_T};
}

}  // namespace

RowTargets::RowTargets(const AnswerTargets& answers, const at::Tensor& weights_T,
                       const SequenceLayout& sequences, int64_t num_rows, at::Device device)
    : targets(Targets::ToDevice(sequences.Own(answers.targets_T, kIgnoredLabel), device)),
      counts_QR(answers.counts_S.view({-1, num_rows}).to(device)),
      offsets_R1({0}),
      group(sequences.group) {
  const int64_t per_row = sequences_per_row();
  const at::Tensor targets_T = answers.targets_T.contiguous();
  const auto* target = targets_T.const_data_ptr<int64_t>();
  const int64_t own_begin = sequences.own_begin();
  const int64_t own_end = own_begin + targets.targets_T.size(0);
  std::vector<int64_t> tokens, sequence;
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int64_t q = 0; q < per_row; ++q) {
      const auto s = static_cast<size_t>(q * num_rows + r);
      const int64_t end = std::min(own_end, sequences.offsets_S1[s + 1]);
      for (int64_t t = std::max(own_begin, sequences.offsets_S1[s]); t < end; ++t) {
        if (target[t] == kIgnoredLabel) continue;
        tokens.push_back(t);
        sequence.push_back(r * per_row + q);
      }
    }
    offsets_R1.push_back(std::ssize(tokens));
  }
  const auto to_device = [&](const at::Tensor& host) {
    return host.to(device, /*non_blocking=*/true);
  };
  const at::Tensor host_tokens_M = at::tensor(tokens, at::kLong);
  tokens_M = to_device(host_tokens_M - own_begin);
  sequence_M = to_device(at::tensor(sequence, at::kLong));
  if (weights_T.defined()) weight_M = to_device(weights_T.index_select(0, host_tokens_M));
}

at::Tensor RowTokens::Sum(const at::Tensor& x_C) const {
  const int64_t per_row = counts_QR.size(0);
  const at::Tensor x_exact_C = x_C.to(at::kDouble);
  const at::Tensor sums = at::zeros({num_rows() * per_row}, x_exact_C.options())
                              .index_add(0, sequence_C, x_exact_C);
  return (group == nullptr ? sums : GroupSum::apply(sums, group))
      .view({num_rows(), per_row})
      .t();
}

at::Tensor RowTokens::WeightedSum(const at::Tensor& x_C) const {
  return Sum(weight_C.defined() ? x_C.to(at::kDouble) * weight_C : x_C);
}

RowTokens DetachedRows(CausalLM& model, const ModelInput& input, const RowTargets& targets) {
  const at::NoGradGuard no_grad;
  return WholeBatch(targets, ComputeTokenLogprobs(model, model.Hidden(input), targets.targets,
                                                  /*stats=*/false));
}

RowLossOutput ComputeRowLoss(CausalLM& model, const at::Tensor& hidden_TD,
                             const RowTargets& targets, const StepContext& context,
                             const RowLoss& loss, bool rows_apart) {
  const bool nothing = targets.tokens_M.size(0) == 0;
  if (model.kernels().fused_linear_logprob && !nothing) {
    return FusedRowLoss(model, hidden_TD, targets, context, loss, rows_apart);
  }
  RowTokens all = WholeBatch(
      targets, nothing ? NothingToPredict(hidden_TD)
                       : ComputeTokenLogprobs(model, hidden_TD, targets.targets));
  const at::Tensor sum = loss(all);
  all.logp_C = all.logp_C.detach();
  return {sum, std::move(all)};
}

void TakeShare(const CausalLM& model, LossOutput& out) {
  const SequenceGroup* group = model.sequence_group().get();
  if (group == nullptr) return;
  const auto places = static_cast<double>(group->size());
  out.loss = out.loss - out.loss.detach() * (1 - 1 / places);
  out.metrics.DivideBy(places);
}

}  // namespace liger::trainer
