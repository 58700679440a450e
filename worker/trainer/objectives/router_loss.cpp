#include "worker/trainer/objectives/router_loss.h"

namespace liger::trainer {

void AddRouterLoss(const at::Tensor& aux_loss, const ModelConfig& config,
                   const StepContext& context, double loss_weight, LossOutput& out) {
  if (!aux_loss.defined()) return;
  const double share = config.router_aux_loss_coef / static_cast<double>(context.micro_batches);
  const at::Tensor loss = aux_loss.to(at::kFloat) * share;
  out.loss = out.loss + loss;
  out.metrics.Add("loss", loss.detach().to(at::kDouble) * loss_weight, 0.0);
  out.metrics.Add("aux_loss", aux_loss, 1.0);
}

}  // namespace liger::trainer
