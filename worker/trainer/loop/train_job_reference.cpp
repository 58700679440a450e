// What a TrainJob's objective compares with.
#include <ATen/ATen.h>

#include "worker/trainer/loop/train_job.h"

namespace liger::trainer {

void TrainJob::SetUpReference() {
  const bool live = objective_->NeedsReference() && !objective_->PrecomputesReference();
  flops_.emplace(trainable_, live, objective_->ComparesMismatched());
  if (!objective_->PrecomputesReference()) return;
  const std::shared_ptr<CausalLM> reference = MakeReference(request_.spec(), trainable_);
  PrecomputedReference::Run run{.num_rows = dataset_.train.num_rows(),
                                .start = *batches_,
                                .micro_batches = training().gradient_accumulation_steps(),
                                .max_steps = max_steps_};
  if (strategy_->sharded()) {
    run.on_any_rank = [this](bool own) {
      const at::Tensor ranks = at::tensor({int64_t{own}}, at::kLong);
      strategy_->SumAcrossRanks(ranks, "what the reference is asked");
      return ranks.item<int64_t>() > 0;
    };
    run.park = [sharding = trainable_.sharding] {
      if (const auto shards = sharding->reference.lock()) shards->LetGo();
    };
  } else if (!trainable_.lora) {  // an adapted model's reference shares its memory
    CausalLM& model = *reference;  // that `precomputed_` has, and may free
    run.wake = [&model, device = device_->torch()] { model.to(device); };
    run.park = [&model] { model.to(at::kCPU); };
  }
  precomputed_ = std::make_unique<PrecomputedReference>(*objective_, reference, run, stop_);
  precomputed_->AttachToEvaluation(eval_batches_);
}

}  // namespace liger::trainer
