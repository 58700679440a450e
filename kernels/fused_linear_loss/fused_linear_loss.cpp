#include "kernels/fused_linear_loss/fused_linear_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/head_buffers.h"
#include "kernels/common/linear_head.h"
#include "kernels/common/path_of.h"

namespace liger::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "fused_linear_loss";

void Check(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
           const TokenGroups& groups, const FusedLinearLossOptions& options) {
  CheckLinearHead(kOp, hidden, weight, target, std::nullopt);
  CheckHeadMap(kOp, {options.softcap, options.temperature});
  const Arg rows{kOp, "groups.rows", groups.rows_M};
  CheckDtype(rows, at::kLong);
  CheckDim(rows, 1);
  CheckSameDevice(rows, {kOp, "hidden", hidden});
  if (groups.rows_M.is_cpu() && groups.rows_M.numel() > 0) {
    const auto [least, most] = at::aminmax(groups.rows_M);
    TORCH_CHECK_INDEX(least.item<int64_t>() >= 0 && most.item<int64_t>() < hidden.size(0), kOp,
                      ": groups.rows of shape ", groups.rows_M.sizes(), " has ",
                      least.item<int64_t>(), " to ", most.item<int64_t>(),
                      ", expected rows of hidden, ", hidden.sizes());
  }
  const auto& offsets = groups.offsets_G1;
  TORCH_CHECK_VALUE(!offsets.empty() && offsets.front() == 0 &&
                        offsets.back() == groups.rows_M.size(0) && std::ranges::is_sorted(offsets),
                    kOp, ": groups.offsets are [", offsets,
                    "], expected ascending ones from 0 to the ", groups.rows_M.size(0),
                    " of groups.rows");
  CheckHeadBuffer(kOp, "grad_weight", options.grad_weight_VH, hidden, weight.sym_sizes(), "[V, H]");
}

// What is kept of all tokens in groups.
struct Kept {
  at::Tensor logp_M, entropy_M, log_sum_sq_M, mean_logit_M, is_top1_M;

  Kept(int64_t M, const c10::TensorOptions& options, bool stats) : logp_M(at::empty({M}, options)) {
    if (!stats) return;
    for (at::Tensor* t : {&entropy_M, &log_sum_sq_M, &mean_logit_M, &is_top1_M}) {
      *t = at::empty({M}, options);
    }
  }

  void Store(int64_t begin, const LogitsStats& stats) const {
    const auto store = [&](const at::Tensor& all, const at::Tensor& chunk) {
      if (all.defined()) all.narrow(0, begin, chunk.size(0)).copy_(chunk);
    };
    store(logp_M, stats.logp);
    store(entropy_M, stats.entropy);
    store(log_sum_sq_M, stats.log_sum_sq);
    store(mean_logit_M, stats.mean_logit);
    store(is_top1_M, stats.is_top1);
  }

  GroupTokens Tokens(int64_t begin_group, int64_t end_group, int64_t first, int64_t rows) const {
    const auto part = [&](const at::Tensor& all) {
      return all.defined() ? all.narrow(0, first, rows) : all;
    };
    return {.begin = begin_group,
            .end = end_group,
            .first = first,
            .logp_C = part(logp_M),
            .entropy_C = part(entropy_M),
            .log_sum_sq_C = part(log_sum_sq_M),
            .mean_logit_C = part(mean_logit_M),
            .is_top1_C = part(is_top1_M)};
  }
};

// The share of the loss, and its gradient by the tokens' log-probabilities if that is needed.
struct Share {
  at::Tensor loss, grad_C;
};

Share Evaluate(const GroupLoss& loss_fn, GroupTokens tokens, bool need_grad) {
  const at::Tensor logp = tokens.logp_C;
  const at::AutoGradMode with_gradients(need_grad);
  if (need_grad) tokens.logp_C = logp.detach().requires_grad_();
  const at::Tensor loss = loss_fn(tokens);
  TORCH_CHECK_VALUE(loss.dim() == 0 && loss.is_floating_point(), kOp,
                    ": the groups' loss has shape ", loss.sizes(), " and dtype ", loss.dtype(),
                    ", expected a floating scalar");
  if (!need_grad) return {loss, {}};
  at::Tensor grad;
  if (loss.requires_grad()) {
    grad = torch::autograd::grad({loss}, {tokens.logp_C}, {}, /*retain_graph=*/std::nullopt,
                                 /*create_graph=*/false, /*allow_unused=*/true)[0];
  }
  return {loss.detach(), grad.defined() ? grad : at::zeros_like(logp)};
}

// One chunk after the other: logits, their statistics, the loss, its gradient.
class Pass {
 public:
  Pass(const LinearHead& head, LinearHeadGradients& gradients, const HeadMap& map, bool stats,
       const Kept& kept)
      : head_(head), gradients_(gradients), map_(map), stats_(stats), kept_(kept) {}

  // Groups whose logits fit into one chunk.
  at::Tensor Together(const GroupLoss& loss_fn, int64_t begin, int64_t end, int64_t first,
                      int64_t rows) {
    at::Tensor loss;
    head_.ForChunk(first, rows, [&](int64_t, at::Tensor& logits, const at::Tensor& y) {
      const LogitsStats stats = ReduceHeadLogits(logits, y, map_, stats_);
      kept_.Store(first, stats);
      const Share share = Evaluate(loss_fn, kept_.Tokens(begin, end, first, rows), any());
      loss = share.loss;
      if (any()) AddGradient(first, logits, stats.logsumexp, y, share.grad_C);
    });
    return loss;
  }

  // One group that is longer: all of its log-probabilities first, then its logits again.
  at::Tensor Apart(const GroupLoss& loss_fn, int64_t group, int64_t first, int64_t rows) {
    const int64_t most = head_.MostGroupRows();
    const at::Tensor logsumexp = at::empty({rows}, kept_.logp_M.options().dtype(at::kDouble));
    const auto for_each = [&](const LinearHead::ChunkFn& fn) {
      for (int64_t at = 0; at < rows; at += most) {
        head_.ForChunk(first + at, std::min(most, rows - at), fn);
      }
    };
    for_each([&](int64_t at, at::Tensor& logits, const at::Tensor& y) {
      const LogitsStats stats = ReduceHeadLogits(logits, y, map_, stats_);
      kept_.Store(at, stats);
      logsumexp.narrow(0, at - first, y.size(0)).copy_(stats.logsumexp);
    });
    const Share share = Evaluate(loss_fn, kept_.Tokens(group, group + 1, first, rows), any());
    if (!any()) return share.loss;
    for_each([&](int64_t at, at::Tensor& logits, const at::Tensor& y) {
      AddGradient(at, logits, logsumexp.narrow(0, at - first, y.size(0)), y,
                  share.grad_C.narrow(0, at - first, y.size(0)));
    });
    return share.loss;
  }

 private:
  bool any() const { return gradients_.any(); }

  // d logp / d z = e_y - p, the negative of cross entropy's.
  void AddGradient(int64_t at, at::Tensor& logits, const at::Tensor& logsumexp, const at::Tensor& y,
                   const at::Tensor& grad) {
    gradients_.AddChunk(at, logits, logsumexp, y, grad.neg(), map_);
  }

  const LinearHead& head_;
  LinearHeadGradients& gradients_;
  HeadMap map_;
  bool stats_;
  const Kept& kept_;
};

struct Needs {
  bool hidden, weight;
};

// The loss, the five tensors of its output, and the gradients for an upstream gradient of 1.
variable_list Run(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                  const TokenGroups& groups, const GroupLoss& loss_fn,
                  const FusedLinearLossOptions& options, Needs needs) {
  RecordPath(Op::kFusedLinearLogprob, PathOf(hidden));
  const auto compute = hidden.options().dtype(ComputeDtype(hidden));
  const LinearHead head =
      LinearHead::OfRows(kOp, hidden, weight, target, groups.rows_M, options.most_rows);
  const bool buffer = options.grad_weight_VH.has_value();
  std::optional<at::Tensor> grad_weight;
  if (needs.weight) {
    grad_weight = buffer ? *options.grad_weight_VH : at::empty(weight.sizes(), compute);
  }
  LinearHeadGradients gradients(head, needs.hidden, grad_weight, std::nullopt, /*scale=*/1,
                                buffer ? hidden.scalar_type() : ComputeDtype(hidden),
                                /*new_weight=*/!buffer || options.grad_weight_is_new);
  const Kept kept(head.num_valid(), compute, options.token_stats);
  Pass pass(head, gradients, {options.softcap, options.temperature}, options.token_stats, kept);
  at::Tensor sum = at::zeros({}, compute.dtype(at::kDouble));
  const auto& offsets = groups.offsets_G1;
  const auto count = static_cast<int64_t>(offsets.size()) - 1;
  const auto at = [&](int64_t g) { return offsets[static_cast<size_t>(g)]; };
  for (int64_t begin = 0, end = 1; begin < count; begin = end, end = begin + 1) {
    const int64_t first = at(begin);
    while (end < count && at(end + 1) - first <= head.MostGroupRows()) ++end;
    const int64_t rows = at(end) - first;
    sum += rows <= head.MostGroupRows() ? pass.Together(loss_fn, begin, end, first, rows)
                                        : pass.Apart(loss_fn, begin, first, rows);
  }
  variable_list out = {sum.to(ComputeDtype(hidden))};
  for (const at::Tensor& value :
       {kept.logp_M, kept.entropy_M, kept.log_sum_sq_M, kept.mean_logit_M, kept.is_top1_M}) {
    out.push_back(value.defined() ? head.ToAllTokens(value) : at::empty({0}, compute));
  }
  out.push_back(gradients.grad_hidden_TH());
  out.push_back(needs.weight && !buffer ? *grad_weight : at::empty({0}, compute));
  return out;
}

class Function : public torch::autograd::Function<Function> {
 public:
  // Gradients are off in here, so the caller says which are needed.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& weight, const at::Tensor& target,
                               const TokenGroups& groups, const GroupLoss& loss_fn,
                               const FusedLinearLossOptions& options, Needs needs) {
    variable_list out = Run(hidden, weight, target, groups, loss_fn, options, needs);
    ctx->save_for_backward({out[6], out[7]});
    out.resize(6);
    ctx->saved_data["dtype"] = static_cast<int64_t>(hidden.scalar_type());
    ctx->saved_data["need_hidden"] = needs.hidden;
    ctx->saved_data["need_weight"] = needs.weight && !options.grad_weight_VH.has_value();
    ctx->saved_data["buffer"] = options.grad_weight_VH.has_value();
    ctx->mark_non_differentiable({out[1], out[2], out[3], out[4], out[5]});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CheckFirstDerivative(kOp);
    const auto saved = ctx->get_saved_variables();
    const auto dtype = static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
    variable_list out(7);
    if (ctx->saved_data["buffer"].toBool()) {
      TORCH_CHECK(!grads[0].is_cpu() || grads[0].item<double>() == 1.0, kOp,
                  ": the upstream gradient of the loss is ", grads[0].item<double>(),
                  ", but grad_weight already holds the head's gradient for 1; put the factor into "
                  "the groups' loss");
      if (ctx->saved_data["need_hidden"].toBool()) out[0] = saved[0];
      return out;
    }
    // Kept in float32 until here: rounded once.
    const auto scaled = [&](const at::Tensor& gradient) {
      return (gradient * grads[0].to(gradient.scalar_type())).to(dtype);
    };
    if (ctx->saved_data["need_hidden"].toBool()) out[0] = scaled(saved[0]);
    if (ctx->saved_data["need_weight"].toBool()) out[1] = scaled(saved[1]);
    return out;
  }
};

}  // namespace

FusedLinearLossOutput FusedLinearLoss(const at::Tensor& hidden, const at::Tensor& weight,
                                      const at::Tensor& target, const TokenGroups& groups,
                                      const GroupLoss& loss_fn,
                                      const FusedLinearLossOptions& options) {
  Check(hidden, weight, target, groups, options);
  const bool buffer = c10::GradMode::is_enabled() && options.grad_weight_VH.has_value();
  const Needs needs{NeedsGrad(hidden), buffer || NeedsGrad(weight)};
  variable_list out;
  if (needs.hidden || NeedsGrad(weight)) {
    out = Function::apply(hidden, weight, target, groups, loss_fn, options, needs);
  } else {
    const at::NoGradGuard no_grad;
    out = Run(hidden, weight, target, groups, loss_fn, options, needs);
  }
  const auto stat = [&](size_t i) { return options.token_stats ? out[i] : at::Tensor(); };
  return {out[0], out[1], stat(2), stat(3), stat(4), stat(5)};
}

}  // namespace liger::kernels
