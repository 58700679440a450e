#include "worker/trainer/objectives/grouped_loss.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "kernels/fused_linear_loss/fused_linear_loss.h"

namespace liger::trainer {
namespace {

// The tokens with a target, group by group; on the host until they move.
struct Order {
  at::Tensor rows_M, sequence_M;  // sequence_M: j of a group's j-th sequence
  at::Tensor group_M;
  std::vector<int64_t> offsets_G1;

  Order(const at::Tensor& targets_T, const SequenceGroups& groups) {
    const auto& offsets = groups.sequences.offsets_S1;
    const int64_t S = groups.sequences.num_sequences();
    const auto* target = targets_T.const_data_ptr<int64_t>();
    std::vector<int64_t> rows, sequence, group;
    offsets_G1 = {0};
    for (int64_t g = 0; g < groups.groups; ++g) {
      for (int64_t s = g, j = 0; s < S; s += groups.groups, ++j) {
        const auto begin = offsets[static_cast<size_t>(s)];
        const auto end = offsets[static_cast<size_t>(s + 1)];
        for (int64_t t = begin; t < end; ++t) {
          if (target[t] == kIgnoredLabel) continue;
          rows.push_back(t);
          sequence.push_back(j);
          group.push_back(g);
        }
      }
      offsets_G1.push_back(static_cast<int64_t>(rows.size()));
    }
    rows_M = at::tensor(rows, at::kLong);
    sequence_M = at::tensor(sequence, at::kLong);
    group_M = at::tensor(group, at::kLong);
  }

  void MoveTo(at::Device device) {
    for (at::Tensor* t : {&rows_M, &sequence_M, &group_M}) {
      *t = t->to(device, at::kLong, /*non_blocking=*/true);
    }
  }

  LossTokens Range(int64_t begin, int64_t end, const SequenceGroups& groups,
                   TokenLogprobs tokens) const {
    const auto first = offsets_G1[static_cast<size_t>(begin)];
    const auto last = offsets_G1[static_cast<size_t>(end)];
    const auto part = [&](const at::Tensor& all) { return all.slice(0, first, last); };
    // All firsts of these groups, then all seconds.
    const int64_t count = end - begin;
    return {.begin = begin,
            .end = end,
            .tokens = std::move(tokens),
            .rows_C = part(rows_M),
            .sequence_C = part(sequence_M) * count + (part(group_M) - begin),
            .num_sequences = count * (groups.sequences.num_sequences() / groups.groups)};
  }
};

TokenLogprobs AtRows(const TokenLogprobs& tokens, const at::Tensor& rows_M) {
  const auto at_rows = [&](const at::Tensor& x_T) { return x_T.index_select(0, rows_M); };
  return {at_rows(tokens.logp_T), at_rows(tokens.mean_logit_T), at_rows(tokens.entropy_T),
          at_rows(tokens.log_sum_sq_T), at_rows(tokens.is_top1_T)};
}

GroupedLoss Fused(CausalLM& model, const at::Tensor& hidden_TD, const at::Tensor& targets_T,
                  const SequenceGroups& groups, const StepContext& context,
                  const LossOfGroups& loss, const Order& order) {
  kernels::FusedLinearLossOptions options;
  options.token_stats = true;
  options.grad_weight_VH = context.head_gradient_VD;
  options.softcap = model.config().final_logit_softcapping;
  const auto out = kernels::FusedLinearLoss(
      hidden_TD, model.HeadWeight(), targets_T, {order.rows_M, order.offsets_G1},
      [&](const kernels::GroupTokens& t) {
        return loss(order.Range(
            t.begin, t.end, groups,
            {t.logp_C, t.mean_logit_C, t.entropy_C, t.log_sum_sq_C, t.is_top1_C}));
      },
      options);
  return {out.loss,
          {out.logp_T, out.mean_logit_T, out.entropy_T, out.log_sum_sq_T, out.is_top1_T}};
}

}  // namespace

at::Tensor LossTokens::Sum(const at::Tensor& values_C) const {
  const at::Tensor exact_C = values_C.to(at::kDouble);
  return at::zeros({num_sequences}, exact_C.options().requires_grad(false))
      .index_add(0, sequence_C, exact_C);
}

GroupedLoss ComputeGroupedLoss(CausalLM& model, const at::Tensor& hidden_TD,
                               const at::Tensor& targets_T, const SequenceGroups& groups,
                               const StepContext& context, const LossOfGroups& loss) {
  Order order(targets_T, groups);
  order.MoveTo(model.device());
  const Targets targets = Targets::ToDevice(targets_T, model.device());
  if (FusesLogprobs(model)) {
    return Fused(model, hidden_TD, targets.targets_T, groups, context, loss, order);
  }
  TokenLogprobs tokens = ComputeTokenLogprobs(model, hidden_TD, targets, context);
  GroupedLoss out;
  out.loss = loss(order.Range(0, groups.groups, groups, AtRows(tokens, order.rows_M)))
                 .to(at::kFloat);
  tokens.logp_T = tokens.logp_T.detach();
  out.tokens = std::move(tokens);
  return out;
}

}  // namespace liger::trainer
