// DDP on ranks that are threads: a step's loss and all of its gradients are those of one device
// with the same global batch, within 1e-5, in fp32.
#include "worker/trainer/parallel/ddp.h"

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <exception>
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
#include "worker/trainer/objectives/sft.h"

namespace liger::trainer {
namespace {

// c10d's flight recorder (torch 2.11, FlightRecorder::record) puts the groups of a process into a
// map without a lock, since a process has one training thread; here ranks are threads.
[[maybe_unused]] const int kNoFlightRecorder =
    setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/1);

constexpr double kTolerance = 1e-5;

struct Case {
  const char* name;
  const char* spec;  // JSON of a JobSpec's method
  RowKind kind = RowKind::kSequence;
  const char* model = "tiny/gqa_tied_v5";
  bool lora = false;
  bool checkpointing = false;
  int64_t micro_batches = 1;
  int64_t rows_per_batch = 2;  // of a rank
  int64_t rows = 10;
  // Compared with as many micro-batches more, since the objective has a term that is a
  // micro-batch's own (the routers' balance): else with one that is as large as all ranks'.
  bool as_micro_batches = false;
  bool masked = false;  // every second row has no label
  at::ScalarType dtype = at::kFloat;  // in which gradients are summed
};

ExampleSet Rows(const Case& c) {
  return MakeRandomRows(c.kind, {.rows = c.rows, .has_labels = [&c](int64_t row) {
                                   return !c.masked || row % 2 == 0;
                                 }});
}

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
  std::vector<at::Tensor> gradients;  // of the step, by entry
  std::map<std::string, double> evaluation;
};

std::shared_ptr<CausalLM> Model(const std::string& folder, bool lora) {
  auto model = BuildModel(ModelConfig::FromFolder(golden::Folder(folder)), golden::Kernels("LIGER"));
  LoadWeights(*model, golden::Folder(folder));
  if (lora) {
    LoraSetup::Find({}, golden::Folder("lora/plain") + "/adapter", *model)
        .Attach(*model, at::kFloat, /*seed=*/0);
  }
  model->train();
  return model;
}

// One rank's step, from the first row on, and an evaluation of all rows.
Outcome RunRank(const Case& c, Strategy& strategy, const ExampleSet& rows, int64_t rows_per_batch,
                int64_t micro_batches) {
  liger::v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(c.spec, &spec).ok());
  const auto objective = MakeObjective(spec);
  const auto model = Model(c.model, c.lora);
  if (objective->NeedsReference()) {
    objective->SetReference(Model(c.lora ? c.model : "preference/reference", false));
  }
  if (c.checkpointing) ApplyActivationCheckpointing(*model);
  TrainableParameters parameters(NamedLeaves(*model), {});
  GradientsOnly optimizer;
  StopFlag stop;
  const StepParts parts{*model, *objective, parameters, optimizer, strategy, stop};
  strategy.Attach(parameters, FinishedBeforeBackward(parts));
  BatchOptions options;
  options.rows_per_batch = rows_per_batch;
  options.shuffle = false;
  options.rank = strategy.rank().rank;
  options.world_size = strategy.rank().world_size;
  BatchIterator batches(rows, options);
  Outcome outcome;
  outcome.result = RunStep(parts, batches.NextStep(micro_batches), 1, 0, 0);
  outcome.gradients = optimizer.gradients;
  outcome.evaluation = Evaluate(
      *model, *objective, EvalBatches(rows, rows_per_batch, options.rank, options.world_size),
      strategy, stop);
  return outcome;
}

std::vector<Outcome> RunRanks(const Case& c, int world_size) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const ExampleSet rows = Rows(c);
  std::vector<Outcome> outcomes(world_size);
  std::vector<std::exception_ptr> errors(world_size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        RankInfo info;
        info.rank = rank;
        info.world_size = info.local_world_size = world_size;
        // Buckets that hold a few tensors each.
        const auto ddp = MakeDdp(Gang::OfThreads(info, store),
                                 {.dtype = c.dtype, .bucket_bytes = 8 << 10});
        outcomes[rank] = RunRank(c, *ddp, rows, c.rows_per_batch, c.micro_batches);
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return outcomes;
}

at::Tensor Flat(const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> flat;
  for (const at::Tensor& gradient : gradients) {
    if (gradient.defined()) flat.push_back(gradient.flatten());
  }
  return at::cat(flat);
}

// But those that are means of micro-batches by definition, and times.
void ExpectSameMeans(const std::map<std::string, double>& actual,
                     const std::map<std::string, double>& expected) {
  for (const auto& [name, mean] : expected) {
    if (name.ends_with("margins") || name.ends_with("runtime")) continue;
    ASSERT_TRUE(actual.contains(name)) << name;
    EXPECT_NEAR(actual.at(name), mean, kTolerance * std::max(1.0, std::abs(mean))) << name;
  }
  EXPECT_EQ(actual.size(), expected.size());
}

class DdpTest : public testing::TestWithParam<std::tuple<Case, int>> {};

TEST_P(DdpTest, IsOneDevice) {
  const auto& [c, world_size] = GetParam();
  const auto single = MakeSingle();
  const int64_t factor = world_size;
  const Outcome one =
      c.as_micro_batches
          ? RunRank(c, *single, Rows(c), c.rows_per_batch, c.micro_batches * factor)
          : RunRank(c, *single, Rows(c), c.rows_per_batch * factor, c.micro_batches);
  const std::vector<Outcome> ranks = RunRanks(c, world_size);
  const double tolerance = c.dtype == at::kFloat ? kTolerance : 1e-2;
  for (const Outcome& rank : ranks) {
    EXPECT_NEAR(rank.result.loss, one.result.loss, kTolerance * std::abs(one.result.loss));
    EXPECT_NEAR(rank.result.grad_norm, one.result.grad_norm, tolerance * one.result.grad_norm);
    EXPECT_EQ(rank.result.num_tokens, one.result.num_tokens);
    ASSERT_EQ(rank.gradients.size(), one.gradients.size());
    for (size_t i = 0; i < one.gradients.size(); ++i) {
      ASSERT_EQ(rank.gradients[i].defined(), one.gradients[i].defined()) << i;
    }
    EXPECT_LT(golden::RelativeError(Flat(rank.gradients), Flat(one.gradients)), tolerance);
    EXPECT_TRUE(Flat(rank.gradients).equal(Flat(ranks[0].gradients))) << "ranks drift apart";
    EXPECT_EQ(rank.result.metrics.Means(), ranks[0].result.metrics.Means());
  }
  EXPECT_GT(one.result.grad_norm, 1e-3) << "no gradient";
  ExpectSameMeans(ranks[0].result.metrics.Means(), one.result.metrics.Means());
  if (!c.as_micro_batches) ExpectSameMeans(ranks[0].evaluation, one.evaluation);
}

constexpr RowKind kPair = RowKind::kPair, kLabelled = RowKind::kLabelled;
// With 4 ranks of 2 rows, the 10 rows leave two ranks without any in the second micro-batch.
const Case kCases[] = {
    {.name = "sft", .spec = R"({"sft": {}})"},
    {.name = "sft_accumulated", .spec = R"({"sft": {}})", .micro_batches = 3},
    {.name = "sft_untied",
     .spec = R"({"sft": {}})",
     .model = "tiny/mha_untied_hub",
     .checkpointing = true,
     .micro_batches = 2},
    {.name = "sft_masked", .spec = R"({"sft": {}})", .rows_per_batch = 1, .masked = true},
    {.name = "sft_fewer_rows_than_ranks", .spec = R"({"sft": {}})", .rows_per_batch = 1, .rows = 1},
    {.name = "sft_lora", .spec = R"({"sft": {}})", .lora = true, .micro_batches = 2},
    {.name = "sft_bf16_sums", .spec = R"({"sft": {}})", .dtype = at::kBFloat16},
    {.name = "sft_mixtral",
     .spec = R"({"sft": {}})",
     .model = "tiny/mixtral_router_v5",
     .micro_batches = 2,
     .rows_per_batch = 1,
     .rows = 8,
     .as_micro_batches = true},
    {.name = "orpo", .spec = R"({"orpo": {"beta": 0.2}})", .kind = kPair, .micro_batches = 2},
    {.name = "orpo_untied",
     .spec = R"({"orpo": {}})",
     .kind = kPair,
     .model = "tiny/mha_untied_hub"},
    {.name = "cpo", .spec = R"({"cpo": {}})", .kind = kPair, .micro_batches = 2},
    {.name = "dpo", .spec = R"({"dpo": {}})", .kind = kPair, .micro_batches = 2},
    {.name = "dpo_lora", .spec = R"({"dpo": {}})", .kind = kPair, .lora = true},
    {.name = "kto", .spec = R"({"kto": {}})", .kind = kLabelled, .micro_batches = 2},
    {.name = "kto_lora", .spec = R"({"kto": {}})", .kind = kLabelled, .lora = true},
};

INSTANTIATE_TEST_SUITE_P(Cases, DdpTest,
                         testing::Combine(testing::ValuesIn(kCases), testing::Values(2, 4)),
                         [](const testing::TestParamInfo<std::tuple<Case, int>>& info) {
                           return std::string(std::get<0>(info.param).name) + "_on_" +
                                  std::to_string(std::get<1>(info.param));
                         });

// Buckets leave while the backward pass goes on, not after it.
TEST(GradientReducerTest, SendsUnderTheBackwardPass) {
  const auto gang = Gang::OfThreads(RankInfo(), c10::make_intrusive<c10d::HashStore>());
  const auto model = Model("tiny/mha_untied_hub", false);
  TrainableParameters parameters(NamedLeaves(*model), {});
  GradientReducer reducer(parameters, *gang, {.bucket_bytes = 4 << 10});
  ASSERT_GT(reducer.num_buckets(), 4);
  const ExampleSet rows = Rows(kCases[0]);
  const Batch batch = EvalBatches(rows, 4)[0];
  SftObjective objective;
  const auto backward = [&] { golden::WholeStep(objective, *model, batch).loss.backward(); };

  backward();  // of an earlier micro-batch: nothing is sent
  reducer.BeginLastBackward();
  backward();
  const std::vector<at::Tensor> sums = reducer.Finish();
  EXPECT_EQ(reducer.sent_early(), reducer.num_buckets());
  parameters.ZeroGradients();
  backward();
  for (size_t i = 0; i < sums.size(); ++i) {
    ASSERT_TRUE(at::allclose(sums[i], 2 * parameters.Gradient(i), 1e-5, 1e-7)) << i;
  }

  // A gradient that comes after its bucket would be lost.
  parameters.ZeroGradients();
  reducer.BeginLastBackward();
  backward();
  EXPECT_THROW(backward(), c10::Error);
}

}  // namespace
}  // namespace liger::trainer
