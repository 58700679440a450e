#include "worker/trainer/loop/sharded_setup.h"

#include <utility>

#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/parallel/fsdp/sharded_parameters.h"

namespace liger::trainer {
namespace {

// What `base` gives, and the adapter: new, or from its folder, which has the modules saved whole,
// too.
FillParameter WithAdapter(const LoraSetup& lora, FillParameter base) {
  std::shared_ptr<const WeightReader> adapter;
  if (!lora.adapter_dir.empty()) {
    adapter = std::make_shared<const WeightReader>(WeightReader::OpenAdapter(lora.adapter_dir));
  }
  return [base = std::move(base), adapter, targets = lora.targets](const std::string& name,
                                                                   at::Tensor parameter) {
    const at::NoGradGuard no_grad;
    const bool adapts = IsAdapterParameter(name);
    if (!adapts) base(name, parameter);
    if (!adapts && !adapter) InitializeMagnitudes(targets, name);
    if (adapter && (adapts || targets.saved.contains(name))) {
      adapter->CopyInto(kAdapterPrefix + name, parameter);
    }
  };
}

ShardOptions OptionsOf(const liger::v1::ParallelSpec& parallel, const PrecisionPlan& precision,
                       const Device& device, const ShardGroups& groups) {
  ShardOptions options;
  options.shards = groups.shards;
  options.replicas = groups.replicas;
  options.notes = {groups.issued, groups.waiting};
  options.device = device.torch();
  options.precision = precision;
  options.keeps_storage = IsMagnitude;
  options.reduce = ReduceDtype(parallel, precision);
  options.shards_parameters = parallel.shard() != liger::v1::SHARD_KIND_OPTIMIZER;
  options.on_host = parallel.cpu_offload();
  options.reshard_after_forward =
      !parallel.has_reshard_after_forward() || parallel.reshard_after_forward();
  return options;
}

// A reference with what it must outlive.
struct Reference {
  std::shared_ptr<CausalLM> model;
  std::shared_ptr<Sharding> source;
  std::shared_ptr<ShardedModel> shards;  // none: source's
};

}  // namespace

TrainableModel MakeShardedModel(const liger::v1::JobSpec& spec, const std::string& model_dir,
                                const PrecisionPlan& precision, const Device& device,
                                const std::string& adapter_dir, const Strategy& strategy) {
  TrainableModel result;
  const auto seed = static_cast<uint64_t>(spec.training().seed());
  // On the host, where memory that is never touched costs nothing.
  result.model = BuildModel(ModelConfig::FromFolder(model_dir), spec.kernels(),
                            spec.has_lora() ? precision.compute : precision.storage);
  FillParameter fill = spec.model().random_init() ? FillAtRandom(result.model->config(), seed)
                                                  : FillFromFolder(*result.model, model_dir);
  if (spec.has_lora()) {
    result.lora = LoraSetup::Find(spec.lora(), adapter_dir, *result.model);
    result.lora->StoreSavedIn(precision.storage, *result.model);
    AttachAdapters(*result.model, result.lora->targets, precision.storage);
    if (adapter_dir.empty()) InitializeAdapters(result.lora->targets, seed);
    fill = WithAdapter(*result.lora, std::move(fill));
  }
  // Each rank sees the whole of each parameter once, before it keeps its part.
  fill = [fill = std::move(fill), &loaded = result.loaded](const std::string& name,
                                                           at::Tensor parameter) {
    fill(name, parameter);
    loaded[name] = SumOfBits(parameter);
  };
  result.model->train();
  ApplyCheckpointing(spec.training(), *result.model);
  result.sharding = std::make_shared<Sharding>(
      *result.model, OptionsOf(spec.parallel(), precision, device, *strategy.shard_groups()), fill,
      strategy.leads());
  result.parameters = std::make_unique<ShardedParameters>(result.sharding->model);
  return result;
}

std::shared_ptr<CausalLM> MakeShardedReference(const liger::v1::JobSpec& spec,
                                               const TrainableModel& trainable) {
  const at::NoGradGuard no_grad;
  const auto reference = std::make_shared<Reference>();
  reference->source = trainable.sharding;
  reference->model =
      BuildModel(trainable.model->config(), spec.kernels(), at::TensorOptions(at::kFloat));
  const bool adapts = trainable.lora.has_value();
  const bool copies = !adapts || !trainable.lora->targets.saved.empty() ||
                      !trainable.lora->adapter_dir.empty();
  if (copies) {
    // Beside modules saved whole a new adapter comes along, which has no effect yet: the copy's
    // shards are laid out like the model's.
    if (adapts) {
      const LoraSetup same =
          LoraSetup::Find(spec.lora(), trainable.lora->adapter_dir, *reference->model);
      AttachAdapters(*reference->model, same.targets, at::kFloat);
    }
    // One that is asked once an epoch waits on the host meanwhile, and is gathered from there.
    const bool once = MakeObjective(spec)->PrecomputesReference();
    reference->shards =
        ShardedModel::FrozenCopy(trainable.sharding->model, *reference->model, once);
    trainable.sharding->reference = reference->shards;
    if (spec.dpo().sync_ref_model()) trainable.sharding->assembly.SaveToo(reference->shards);
  } else {
    trainable.sharding->model.ReadBy(*reference->model);
  }
  reference->model->eval();
  return {reference, reference->model.get()};
}

}  // namespace liger::trainer
