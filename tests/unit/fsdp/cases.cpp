#include "tests/unit/fsdp/cases.h"

#include <ATen/CPUGeneratorImpl.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <optional>

#include "tests/paths.h"
#include "tests/unit/fsdp/ranks.h"
#include "tests/unit/objectives/random_rows.h"
#include "worker/trainer/data/batch.h"
#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/models/lora.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/optim/gradients.h"
#include "worker/trainer/parallel/fsdp/sharded_parameters.h"

namespace liger::trainer::testing_fsdp {

using testing_ranks::Groups;
using testing_ranks::RunRanks;

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// Of eight, the third row of sequences has nothing to learn; masked, all of the third of four
// ranks.
static ExampleSet Rows(const Case& c) {
  return MakeRandomRows(c.kind, {.has_labels = [&c](int64_t row) {
                          const bool is_third = c.masked ? row % 4 == 2 : row == 2;
                          return c.kind != RowKind::kSequence || !is_third;
                        }});
}

static std::unique_ptr<Objective> MakeObjectiveOf(const Case& c) {
  liger::v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(c.spec, &spec).ok());
  return MakeObjective(spec);
}

double RelativeError(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor exact = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

static liger::v1::KernelSpec Kernels(const Case& c) {
  liger::v1::KernelMode mode;
  EXPECT_TRUE(liger::v1::KernelMode_Parse("KERNEL_MODE_" + std::string(c.kernels), &mode));
  liger::v1::KernelSpec spec;
  spec.set_mode(mode);
  return spec;
}

static ModelConfig DeepConfig(const Case& c) {
  ModelConfig config =
      ModelConfig::FromFolder(SourceDir() + "/tests/golden/models/tiny/" + c.folder);
  config.num_hidden_layers = 5;
  config.sliding_windows.resize(5, config.sliding_windows.at(0));
  return config;
}

std::shared_ptr<CausalLM> Model(const Case& c, uint64_t seed) {
  auto model = BuildModel(DeepConfig(c), Kernels(c));
  InitializeWeights(*model, seed);
  const at::NoGradGuard no_grad;
  for (auto& parameter : model->parameters()) parameter.mul_(4);  // gradients that matter
  if (c.lora) {
    AdapterConfig lora;
    lora.r = 4;
    lora.target_modules = {kAllLinear};
    if (c.saves_head) lora.modules_to_save = {"lm_head"};
    const LoraTargets targets = LoraTargets::Find(*model, lora);
    AttachAdapters(*model, targets, at::kFloat);
    InitializeAdapters(targets, seed);
    // B, which starts at zero, so that A has a gradient.
    at::Generator generator = at::detail::createCPUGenerator(seed);
    for (const auto& item : model->named_parameters()) {
      at::Tensor value = item.value();
      if (item.key().ends_with("lora_B.weight")) value.normal_(0, 0.05, generator);
    }
  }
  model->train();
  if (c.checkpoint) {
    ApplyActivationCheckpointing(*model, {.keep_attention = true, .offload = true});
  }
  return model;
}

std::unique_ptr<Optimizer> OptimizerOf(const Case& c, TrainableParameters& parameters) {
  liger::v1::TrainingSpec training;
  training.set_optim(c.optim);
  training.set_weight_decay(0.1);
  return MakeOptimizer(training, parameters, PrecisionPlan());
}

double RelativeError(const std::map<std::string, at::Tensor>& actual,
                     const std::map<std::string, at::Tensor>& expected) {
  std::vector<at::Tensor> ours, theirs;
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(actual.contains(name)) << name;
    ours.push_back(actual.at(name).flatten());
    theirs.push_back(tensor.flatten());
  }
  EXPECT_EQ(actual.size(), expected.size());
  return RelativeError(at::cat(ours), at::cat(theirs));
}

std::map<std::string, at::Tensor> Moved(const Case& c, std::map<std::string, at::Tensor> after) {
  const auto before = Model(c);
  for (const auto& item : before->named_parameters()) {
    const auto it = after.find(item.key());
    if (it != after.end()) it->second = it->second - item.value().detach();
  }
  return after;
}

// Rows of rank `rank` of each of two micro-batches of four rows.
static std::vector<Batch> MicroBatches(const ExampleSet& rows, int rank, int ranks) {
  std::vector<Batch> batches;
  for (int64_t micro = 0; micro < 2; ++micro) {
    std::vector<int64_t> own;
    for (int64_t row = rank; row < 4; row += ranks) own.push_back(micro * 4 + row);
    batches.push_back(MakeBatch(rows, own));
  }
  return batches;
}

static StepContext ContextOf(const Objective& objective, const ExampleSet& rows) {
  StepContext context;
  for (const Batch& batch : MicroBatches(rows, 0, 1)) {
    context.loss_tokens += objective.Count(batch).loss_tokens;
    context.rows += objective.Count(batch).rows;
  }
  return context;
}

void Backward(CausalLM& model) {
  const Case c{"sft", kUntied, 1, 1};
  const ExampleSet rows = Rows(c);
  const auto objective = MakeObjectiveOf(c);
  objective->Forward(model, MicroBatches(rows, 0, 1)[0], ContextOf(*objective, rows))
      .loss.backward();
}

Outcome RunSingle(const Case& c) {
  const ExampleSet rows = Rows(c);
  const auto objective = MakeObjectiveOf(c);
  const auto model = Model(c);
  if (objective->NeedsReference()) {
    Case base = c;
    base.lora = c.saves_head;
    const auto reference = Model(base);
    reference->eval();
    objective->SetReference(reference);
  }
  std::vector<std::pair<std::string, at::Tensor>> leaves;
  for (const auto& item : model->named_parameters()) leaves.emplace_back(item.key(), item.value());
  TrainableParameters parameters(leaves, {});
  const auto optimizer = OptimizerOf(c, parameters);
  Outcome outcome;
  for (int step = 0; step < kSteps; ++step) {
    const StepContext context = ContextOf(*objective, rows);
    double loss = 0;
    // Cut as the ranks have it: of each micro-batch, every rank's rows.
    for (int rank = 0; rank < c.ranks; ++rank) {
      for (const Batch& batch : MicroBatches(rows, rank, c.ranks)) {
        const LossOutput out = objective->Forward(*model, batch, context);
        out.loss.backward();
        loss += out.loss.item<double>();
      }
    }
    outcome.losses.push_back(loss);
    const std::vector<at::Tensor> grads = parameters.Gradients();
    if (step == 0) {
      for (size_t i = 0; i < grads.size(); ++i) {
        outcome.gradient[parameters.entries()[i].name] = grads[i].clone();
      }
      outcome.norm = GlobalGradientNorm(grads).item<double>();
    }
    optimizer->Step(grads, /*learning_rate=*/1e-3, /*grad_scale=*/1.0);
    parameters.ZeroGradients();
    objective->AfterStep(*model, step + 1);
  }
  for (const auto& entry : parameters.entries()) {
    outcome.parameters[entry.name] = entry.storage.detach().clone();
  }
  return outcome;
}

static double SumOver(const c10::intrusive_ptr<c10d::Backend>& group, double value) {
  std::vector<at::Tensor> tensors = {at::full({1}, value, at::kDouble)};
  group->allreduce(tensors)->wait();
  return tensors[0].item<double>();
}

namespace {

// What the loop does with a step.
class Rank {
 public:
  Rank(const Case& c, const Groups& groups)
      : case_(c), groups_(groups), rows_(Rows(c)), objective_(MakeObjectiveOf(c)) {
    model_ = Model(c);
    ShardOptions options{.shards = groups.shards, .replicas = groups.replicas};
    options.shards_parameters = c.shards_parameters;
    options.reshard_after_forward = c.reshard;
    options.reduce = c.reduce;
    options.on_host = c.on_host;
    sharded_ = std::make_unique<ShardedModel>(*model_, options);
    parameters_ = std::make_unique<ShardedParameters>(*sharded_);
    optimizer_ = OptimizerOf(c, *parameters_);
    if (!objective_->NeedsReference()) return;
    Case base = c;
    base.lora = c.saves_head;
    base.checkpoint = false;
    const auto reference = Model(base, /*seed=*/4);  // of other values
    for (auto& parameter : reference->parameters()) parameter.requires_grad_(false);
    if (c.lora && !c.saves_head) {
      sharded_->ReadBy(*reference);
    } else {
      sharded_reference_ = ShardedModel::FrozenCopy(*sharded_, *reference);
    }
    reference->eval();
    objective_->SetReference(reference, [this](double alpha) {
      sharded_reference_->MoveToward(*sharded_, alpha);
    });
  }

  // The global loss.
  double Backward() {
    StepContext context = ContextOf(*objective_, rows_);
    const bool fused = objective_->FusesHead(*model_);
    const bool early = fused && !model_->config().tie_word_embeddings;
    double loss = 0;
    int left = 2;
    std::optional<GradientSum> head_gradient;
    for (const Batch& batch : MicroBatches(rows_, groups_.rank, case_.ranks)) {
      if (fused) head_gradient = parameters_->DirectGradient(model_->HeadWeight());
      if (head_gradient && head_gradient->is_new) head_gradient->sum.fill_(std::nan(""));
      context.head_gradient = head_gradient ? &*head_gradient : nullptr;
      const LossOutput out = objective_->Forward(*model_, batch, context);
      if (head_gradient) head_gradient->Settled();
      if (--left == 0 && early) parameters_->FinishDirectGradient(model_->HeadWeight());
      out.loss.backward();
      parameters_->FinishBackward();
      loss += out.loss.item<double>();
    }
    grads_ = parameters_->Gradients();
    return SumOver(groups_.world, loss);
  }

  double Norm() {
    const double norm = GlobalGradientNorm(grads_).item<double>();
    return std::sqrt(SumOver(groups_.shards, norm * norm));
  }

  void Update(int step) {
    optimizer_->Step(grads_, /*learning_rate=*/1e-3, /*grad_scale=*/1.0);
    parameters_->ZeroGradients();
    objective_->AfterStep(*model_, step + 1);
  }

  // Puts this rank's part of the gradient, or of the parameters, into its place.
  void CollectGradient(std::map<std::string, at::Tensor>& whole) const { Collect(grads_, whole); }
  void CollectParameters(std::map<std::string, at::Tensor>& whole) const {
    std::vector<at::Tensor> own;
    for (const auto& entry : parameters_->entries()) own.push_back(entry.storage.detach());
    Collect(own, whole);
  }

 private:
  void Collect(const std::vector<at::Tensor>& own,
               std::map<std::string, at::Tensor>& whole) const {
    for (size_t i = 0; i < own.size(); ++i) {
      const auto& entry = parameters_->entries()[i];
      at::Tensor& target = whole[entry.name];
      if (!target.defined()) target = at::full(entry.part->shape, std::nan(""));
      if (!own[i].defined()) continue;  // it is with other ranks
      target.view(-1).narrow(0, entry.part->begin, own[i].numel()).copy_(own[i]);
    }
  }

  const Case& case_;
  const Groups& groups_;
  const ExampleSet rows_;
  std::unique_ptr<Objective> objective_;
  std::shared_ptr<CausalLM> model_;
  std::unique_ptr<ShardedModel> sharded_, sharded_reference_;
  std::unique_ptr<ShardedParameters> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<at::Tensor> grads_;
};

}  // namespace

Outcome RunSharded(const Case& c) {
  Outcome outcome;
  std::mutex mutex;
  RunRanks(c.ranks, c.shards, [&](const Groups& groups) {
    Rank rank(c, groups);
    for (int step = 0; step < kSteps; ++step) {
      const double loss = rank.Backward();
      const double norm = step == 0 ? rank.Norm() : 0;
      {
        const std::lock_guard lock(mutex);
        if (step == 0) {
          rank.CollectGradient(outcome.gradient);
          outcome.norm = norm;
        }
        if (groups.rank == 0) outcome.losses.push_back(loss);
      }
      rank.Update(step);  // of all ranks together
    }
    const std::lock_guard lock(mutex);
    rank.CollectParameters(outcome.parameters);
  });
  return outcome;
}

}  // namespace liger::trainer::testing_fsdp
