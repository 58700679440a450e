#include "worker/trainer/objectives/router_loss.h"

namespace liger::trainer {

void AddRouterLoss(const at::Tensor& aux_loss, const CausalLM& model, const StepContext& context,
                   double loss_weight, LossOutput& out) {
  if (!aux_loss.defined()) return;
  const double share =
      model.config().router_aux_loss_coef / static_cast<double>(context.micro_batches);
  const at::Tensor loss = aux_loss.to(at::kFloat) * share;
  out.loss = out.loss + loss;
  out.metrics.Add("loss", loss.detach().to(at::kDouble) * loss_weight, 0.0);
  const SequenceGroup* group = model.sequence_group().get();
  out.metrics.Add("aux_loss", aux_loss, group ? 1.0 / static_cast<double>(group->size()) : 1.0);
}

}  // namespace liger::trainer
