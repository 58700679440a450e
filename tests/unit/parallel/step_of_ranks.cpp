#include "tests/unit/parallel/step_of_ranks.h"

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <exception>
#include <map>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "tests/unit/models/golden.h"
#include "tests/unit/objectives/random_rows.h"
#include "worker/trainer/data/sampler.h"
#include "worker/trainer/loop/evaluate.h"
#include "worker/trainer/loop/lora_setup.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/loop/step.h"
#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/parallel/ddp.h"
#include "worker/trainer/parallel/fsdp.h"
#include "worker/trainer/parallel/fsdp/sharded_parameters.h"

namespace liger::trainer {
namespace {

// c10d's flight recorder (torch 2.11, FlightRecorder::record) puts the groups of a process into a
// map without a lock, since a process has one training thread; here ranks are threads.
[[maybe_unused]] const int kNoFlightRecorder =
    setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/1);

constexpr double kTolerance = 1e-5;

// Keeps the gradients instead of using them.
class GradientsOnly : public Optimizer {
 public:
  using Optimizer::Step;
  void Step(const std::vector<at::Tensor>& grads, double, const at::Tensor&) override {
    for (const at::Tensor& grad : grads) {
      gradients.push_back(grad.defined() ? grad.clone() : at::Tensor());
    }
  }
  std::map<std::string, at::Tensor> StateDict() const override { return {}; }
  void LoadStateDict(const std::map<std::string, at::Tensor>&) override {}
  int64_t StateBytes() const override { return 0; }

  std::vector<at::Tensor> gradients;
};

struct Outcome {
  StepResult result;
  std::map<std::string, at::Tensor> gradients;  // of the step, whole
  std::map<std::string, double> evaluation;
};

// By name; every rank's parts in their places.
std::map<std::string, at::Tensor> Whole(const TrainableParameters& parameters, Strategy& strategy,
                                        const std::vector<at::Tensor>& gradients) {
  std::map<std::string, at::Tensor> result;
  for (size_t i = 0; i < gradients.size(); ++i) {
    const auto& entry = parameters.entries()[i];
    at::Tensor& whole = result[entry.name] = gradients[i];
    if (!entry.part) continue;
    whole = at::zeros(entry.part->shape);
    if (gradients[i].defined()) {
      whole.view(-1).narrow(0, entry.part->begin, gradients[i].numel()).copy_(gradients[i]);
    }
    strategy.SumAcrossRanks(whole, "a whole gradient");
    whole /= strategy.copies();
  }
  return result;
}

// A model's parameters, sharded or not.
struct Trained {
  std::unique_ptr<ShardedModel> shards, reference_shards;
  std::unique_ptr<TrainableParameters> parameters;

  Trained(CausalLM& model, CausalLM* reference, const Strategy& strategy) {
    const ShardGroups* groups = strategy.shard_groups();
    if (groups == nullptr) {
      parameters = std::make_unique<TrainableParameters>(NamedLeaves(model), PrecisionPlan());
      return;
    }
    const ShardOptions options{.shards = groups->shards,
                               .replicas = groups->replicas,
                               .notes = {groups->issued, groups->waiting}};
    shards = std::make_unique<ShardedModel>(model, options);
    parameters = std::make_unique<ShardedParameters>(*shards);
    if (reference == nullptr) return;
    for (auto& parameter : reference->parameters()) parameter.requires_grad_(false);
    reference_shards = ShardedModel::FrozenCopy(*shards, *reference);
  }
};

// One rank's step, from the first row on, and an evaluation of all rows.
Outcome RunRank(const StepCase& c, Strategy& strategy, const ExampleSet& rows,
                int64_t rows_per_batch, int64_t micro_batches) {
  strategy.OpenDevice(at::kCPU);
  liger::v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(c.spec, &spec).ok());
  const auto objective = MakeObjective(spec);
  const auto model = StepModel(c, c.model, c.lora);
  model->set_sequence_group(strategy.sequence_group());
  std::shared_ptr<CausalLM> reference;
  if (objective->NeedsReference()) {
    // FSDP's is the model itself, as it is before training.
    const bool same = c.lora || c.fsdp;
    reference = StepModel(c, same ? c.model : "preference/reference", false);
    reference->set_sequence_group(strategy.sequence_group());
    objective->SetReference(reference);
  }
  if (c.checkpointing) {
    ApplyActivationCheckpointing(*model, {.keep_attention = true, .offload = true});
  }
  const Trained trained(*model, reference.get(), strategy);
  GradientsOnly optimizer;
  StopFlag stop;
  const StepParts parts{*model, *objective, *trained.parameters, optimizer, strategy, stop};
  strategy.Attach(*trained.parameters, FinishedBeforeBackward(parts));
  BatchOptions options;
  options.rows_per_batch = rows_per_batch;
  options.shuffle = false;
  options.rank = strategy.data_rank();
  options.world_size = strategy.data_ranks();
  BatchIterator batches(rows, options);
  Outcome outcome;
  outcome.result = RunStep(parts, batches.NextStep(micro_batches), 1, 0, 0);
  outcome.gradients = Whole(*trained.parameters, strategy, optimizer.gradients);
  outcome.evaluation = Evaluate(
      *model, *objective, EvalBatches(rows, rows_per_batch, options.rank, options.world_size),
      strategy, stop);
  return outcome;
}

std::unique_ptr<Strategy> MakeStrategyOf(const StepCase& c, std::unique_ptr<Gang> gang,
                                         int sequence_size) {
  liger::v1::ParallelSpec parallel;
  parallel.set_hybrid_shard_size(c.hybrid_shard_size);
  if (c.fsdp) return MakeFsdp(std::move(gang), parallel, c.dtype, sequence_size);
  // Buckets that hold a few tensors each.
  return MakeDdp(std::move(gang), {.dtype = c.dtype, .bucket_bytes = 8 << 10}, sequence_size);
}

std::vector<Outcome> RunRanks(const StepCase& c, int world_size, int sequence_size) {
  const ExampleSet rows = Rows(c);
  std::vector<Outcome> outcomes(world_size);
  RunGang(world_size, [&](std::unique_ptr<Gang> gang) {
    const int rank = gang->rank().rank;
    const auto strategy = MakeStrategyOf(c, std::move(gang), sequence_size);
    outcomes[rank] = RunRank(c, *strategy, rows, c.rows_per_batch, c.micro_batches);
  });
  return outcomes;
}

at::Tensor Flat(const std::map<std::string, at::Tensor>& gradients) {
  std::vector<at::Tensor> flat;
  for (const auto& [name, gradient] : gradients) {
    if (gradient.defined()) flat.push_back(gradient.flatten());
  }
  return at::cat(flat);
}

// But those that are means of micro-batches by definition, and times.
void ExpectSameMeans(const std::map<std::string, double>& actual,
                     const std::map<std::string, double>& expected) {
  for (const auto& [name, mean] : expected) {
    if (name.ends_with("margins") || name.ends_with("runtime")) continue;
    // Where rewards are zero but for roundings (the reference is the model itself), of their signs.
    const auto chosen = expected.find("eval_rewards/chosen");
    const bool no_rewards = chosen != expected.end() && std::abs(chosen->second) < kTolerance;
    if (name.ends_with("accuracies") && no_rewards) continue;
    ASSERT_TRUE(actual.contains(name)) << name;
    EXPECT_NEAR(actual.at(name), mean, kTolerance * std::max(1.0, std::abs(mean))) << name;
  }
  EXPECT_EQ(actual.size(), expected.size());
}

}  // namespace

void RunGang(int ranks, const std::function<void(std::unique_ptr<Gang>)>& work) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::exception_ptr> errors(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        RankInfo info;
        info.rank = rank;
        info.world_size = info.local_world_size = ranks;
        work(Gang::OfThreads(info, store));
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

ExampleSet Rows(const StepCase& c) {
  ExampleSet set = MakeRandomRows(c.kind, {.rows = c.rows, .has_labels = [&c](int64_t row) {
                                             return !c.masked || row % 2 == 0;
                                           }});
  for (Example& sequence : set.sequences) {
    if (c.last_tokens == 0) break;
    for (TokenIds* ids : {&sequence.input_ids, &sequence.labels}) {
      *ids = TokenIds(ids->end() - c.last_tokens, ids->end());
    }
  }
  for (int64_t begin = 0; c.sequences_per_pack > 0; begin += c.sequences_per_pack) {
    set.pack_begins.push_back(std::min(begin, std::ssize(set.sequences)));
    if (begin >= std::ssize(set.sequences)) break;
  }
  return set;
}

std::shared_ptr<CausalLM> StepModel(const StepCase& c, const std::string& folder, bool lora) {
  auto model =
      BuildModel(ModelConfig::FromFolder(golden::Folder(folder)), golden::Kernels(c.kernels));
  LoadWeights(*model, golden::Folder(folder));
  if (lora) {
    LoraSetup::Find({}, golden::Folder("lora/plain") + "/adapter", *model)
        .Attach(*model, at::kFloat, /*seed=*/0);
  }
  model->train();
  return model;
}

void ExpectOneDevice(const StepCase& c, int world_size, int sequence_size) {
  const auto single = MakeSingle();
  const int64_t factor = world_size / sequence_size;
  const Outcome one =
      c.as_micro_batches
          ? RunRank(c, *single, Rows(c), c.rows_per_batch, c.micro_batches * factor)
          : RunRank(c, *single, Rows(c), c.rows_per_batch * factor, c.micro_batches);
  const std::vector<Outcome> ranks = RunRanks(c, world_size, sequence_size);
  const double tolerance = c.dtype == at::kFloat ? kTolerance : 1e-2;
  for (const Outcome& rank : ranks) {
    EXPECT_NEAR(rank.result.loss, one.result.loss, kTolerance * std::abs(one.result.loss));
    EXPECT_NEAR(rank.result.grad_norm, one.result.grad_norm, tolerance * one.result.grad_norm);
    EXPECT_EQ(rank.result.num_tokens, one.result.num_tokens);
    ASSERT_EQ(rank.gradients.size(), one.gradients.size());
    for (const auto& [name, gradient] : one.gradients) {
      ASSERT_TRUE(rank.gradients.contains(name)) << name;
      ASSERT_EQ(rank.gradients.at(name).defined(), gradient.defined()) << name;
    }
    EXPECT_LT(golden::RelativeError(Flat(rank.gradients), Flat(one.gradients)), tolerance);
    EXPECT_TRUE(Flat(rank.gradients).equal(Flat(ranks[0].gradients))) << "ranks drift apart";
    EXPECT_EQ(rank.result.metrics.Means(), ranks[0].result.metrics.Means());
  }
  EXPECT_GT(one.result.grad_norm, 1e-3) << "no gradient";
  ExpectSameMeans(ranks[0].result.metrics.Means(), one.result.metrics.Means());
  if (!c.as_micro_batches) ExpectSameMeans(ranks[0].evaluation, one.evaluation);
}

}  // namespace liger::trainer
