#include "worker/trainer/loop/step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "worker/trainer/loop/rank_sums.h"
#include "worker/trainer/loop/stand_in.h"
#include "worker/trainer/optim/gradients.h"
#include "worker/trainer/side_stream.h"

namespace liger::trainer {
namespace {

// Counts of the whole step, over micro-batches and ranks.
struct StepTotals {
  StepContext context;
  int64_t num_tokens = 0;
  bool all_ranks_have_rows = true;
};

StepTotals CountStep(const StepParts& parts, const std::vector<Batch>& micro_batches) {
  int64_t loss_tokens = 0, rows = 0, tokens = 0, micro_batch_count = 0, with_rows = 0;
  for (const Batch& batch : micro_batches) {
    const StepCounts counts = parts.objective.Count(batch);
    loss_tokens += counts.loss_tokens;
    rows += counts.rows;
    tokens += batch.num_tokens;
    if (batch.num_tokens > 0) ++micro_batch_count;
  }
  if (micro_batch_count > 0) with_rows = 1;
  const at::Tensor sums =
      at::tensor({loss_tokens, rows, tokens, micro_batch_count, with_rows}, at::kLong);
  SumCounts(parts.strategy, sums, "the step's counts");
  const auto* values = sums.const_data_ptr<int64_t>();
  StepTotals totals;
  totals.context.loss_tokens = values[0];
  totals.context.rows = values[1];
  totals.context.micro_batches = values[3];
  totals.num_tokens = values[2];
  totals.all_ranks_have_rows = values[4] == parts.strategy.data_ranks();
  totals.context.sum_across_ranks = SumInForward(parts.strategy);
  return totals;
}

// A fused head adds its gradient to the parameter's over all micro-batches
// itself: in fp32 whatever the compute dtype, and with no tensor of the head's
// size for each of them. The first of them writes over the memory, which nobody has zeroed.
std::optional<GradientSum> HeadGradient(const StepParts& parts) {
  if (!parts.objective.FusesHead(parts.model)) return std::nullopt;
  return parts.parameters.DirectGradient(parts.model.HeadWeight());
}

// After the last micro-batch's forward pass: lets go of the head's gradient in fp32 where it is
// whole already, which a head that is also the embedding never is.
void FinishHeadGradient(const StepParts& parts) {
  const at::Tensor head = parts.model.HeadWeight();
  if (!head.is_same(parts.model.EmbeddingWeight())) parts.parameters.FinishDirectGradient(head);
}

// Adds the micro-batch's gradients to the accumulated ones.
void RunMicroBatch(const StepParts& parts, const Batch& batch, StepContext& context, bool is_last,
                   at::Tensor& loss_sum, MetricSums& metrics) {
  const bool stands_in = batch.num_tokens == 0;
  LossOutput output = stands_in ? ForwardStandIn(parts.objective, parts.model, context)
                                : parts.objective.Forward(parts.model, batch, context);
  // Autograd may add to it, too; a stand-in has not written.
  if (context.head_gradient != nullptr) context.head_gradient->Settled();
  if (is_last && context.head_gradient != nullptr) {
    FinishHeadGradient(parts);
    *std::exchange(context.head_gradient, nullptr) = {};  // which else holds it beside the blocks'
  }
  if (output.loss.requires_grad()) output.loss.backward();
  parts.parameters.FinishBackward();
  if (stands_in) return;
  const at::Tensor loss = output.loss.detach().to(at::kDouble);
  loss_sum = loss_sum.defined() ? loss_sum + loss : loss;
  metrics.Add(output.metrics);
}

// Of all ranks; a float64 number that the host does not wait for.
at::Tensor GradientNorm(Strategy& strategy, const std::vector<at::Tensor>& grads,
                        at::Device device) {
  const at::Tensor norm = GlobalGradientNorm(grads);
  if (!strategy.norm_is_partial()) return norm;
  // A rank may have no part of any gradient, and its zero be elsewhere.
  at::Tensor squared = norm.to(device).square();
  strategy.SumAcrossRanks(squared, "the gradient's norm");
  return squared.div_(strategy.copies()).sqrt();
}

// Forward and backward of every micro-batch: gradients, all of the result but its
// loss and norm, and the loss, a float64 number that the host does not wait for.
at::Tensor RunMicroBatches(const StepParts& parts, const std::vector<Batch>& micro_batches,
                           StepResult& result) {
  StepTotals totals = CountStep(parts, micro_batches);
  std::optional<GradientSum> head_gradient = HeadGradient(parts);
  if (head_gradient) totals.context.head_gradient = &*head_gradient;
  result.num_tokens = totals.num_tokens;
  at::Tensor loss_sum;
  const auto has_tokens = [](const Batch& batch) { return batch.num_tokens > 0; };
  auto left = std::ranges::count_if(micro_batches, has_tokens);
  const bool together = parts.strategy.passes_together();
  for (const Batch& batch : micro_batches) {
    parts.stop.Check();
    // Of the step, not of this rank: where other ranks have a later one, what those sum in its
    // forward pass comes before the gradients on all of them.
    if (&batch == &micro_batches.back()) parts.strategy.BeginLastBackward();
    if (!has_tokens(batch) && !together) {
      parts.objective.ForwardNothing(parts.model, totals.context);
      continue;
    }
    const bool is_last = together ? &batch == &micro_batches.back() : --left == 0;
    RunMicroBatch(parts, batch, totals.context, is_last, loss_sum, result.metrics);
  }
  // Without a micro-batch nobody has.
  if (totals.context.head_gradient != nullptr) totals.context.head_gradient->Settled();
  const auto on_device = at::TensorOptions(parts.model.device()).dtype(at::kDouble);
  if (!loss_sum.defined()) loss_sum = at::zeros({}, on_device);
  result.all_ranks_have_metrics = totals.all_ranks_have_rows;
  return loss_sum;
}

}  // namespace

std::set<size_t> FinishedBeforeBackward(const StepParts& parts) {
  const at::Tensor head = parts.model.HeadWeight();
  if (!parts.objective.FusesHead(parts.model) || head.is_same(parts.model.EmbeddingWeight())) {
    return {};
  }
  const auto index = parts.parameters.IndexOf(head);
  return index ? std::set<size_t>{*index} : std::set<size_t>{};
}

TrainerError NotFinite(const std::string& what, double value, int64_t step) {
  return TrainerError(liger::v1::FAILURE_CLASS_NAN,
                      what + " became " + (std::isnan(value) ? "NaN" : "infinite") + " at step " +
                          std::to_string(step),
                      "lower training.learning_rate, add warm-up (training.warmup_ratio), or set "
                      "training.max_grad_norm; if it happens at step 1 or before, look at the data "
                      "and the model's weights")
      .Step(step);
}

StepResult RunStep(const StepParts& parts, const std::vector<Batch>& micro_batches, int64_t step,
                   double learning_rate, double max_grad_norm) {
  StepResult result;
  const at::Device device = parts.model.device();
  // Collectives within the passes would hold up the stream of every rank alike.
  const bool timed =
      !device.is_cpu() && !parts.strategy.alone() && !parts.strategy.passes_together();
  std::optional<StreamMoment> begin, end;
  if (timed) begin.emplace(device);
  const at::Tensor loss = RunMicroBatches(parts, micro_batches, result);
  if (timed) end.emplace(device);
  const std::vector<at::Tensor> grads = parts.strategy.ReduceGradients(parts.parameters);
  parts.strategy.SumAcrossRanks(loss, "the loss");
  const std::shared_ptr<void> waiting = parts.strategy.AwaitDevice("the step's sums");
  const at::Tensor norm = GradientNorm(parts.strategy, grads, parts.model.device());
  // A factor that is not finite makes the optimizer change nothing.
  const at::Tensor on_device = loss.to(norm.device());
  const at::Tensor factor = ClipFactor(norm, max_grad_norm)
                                .masked_fill_(on_device.isfinite().logical_not(), std::nan(""));
  if (parts.before_update) parts.before_update();
  parts.optimizer.Step(grads, learning_rate, factor);
  parts.parameters.ZeroGradients();
  SumMetrics(parts.strategy, result.all_ranks_have_metrics, parts.model.device(), result.metrics);

  // The one time that the host waits for the device.
  const at::Tensor values = at::stack({on_device, norm}).cpu();
  result.loss = values[0].item<double>();
  result.grad_norm = values[1].item<double>();
  if (timed) result.device_seconds = begin->SecondsTo(*end);
  if (!std::isfinite(result.loss)) throw NotFinite("the loss", result.loss, step);
  if (!std::isfinite(result.grad_norm)) throw NotFinite("the gradient", result.grad_norm, step);
  return result;
}

}  // namespace liger::trainer
