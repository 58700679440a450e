#include "worker/trainer/loop/step.h"

#include <gtest/gtest.h>

#include "tests/unit/models/golden.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/objectives/token_logprobs.h"
#include "worker/trainer/optim/optimizer.h"
#include "worker/trainer/optim/schedule.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {
namespace {

constexpr char kHead[] = "model.embed_tokens.weight";  // tied in every model here

PrecisionPlan Plan(liger::v1::Precision preset) {
  liger::v1::TrainingSpec training;
  training.set_precision(preset);
  return ResolvePrecision(training, /*on_gpu=*/false);
}

// With beta1 = 0 the optimizer's first moment is the gradient of its last step.
at::Tensor HeadGradientOfStep(golden::Trainee& trainee, const std::vector<Batch>& micro_batches) {
  trainee.Step(micro_batches, /*learning_rate=*/0, /*max_grad_norm=*/0);
  return trainee.optimizer().StateDict().at(std::string("exp_avg.") + kHead).clone();
}

// ---- transformers' Trainer: accumulation, clipping, warm-up, decay ----

class TrainerGoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(TrainerGoldenTest, LossNormAndLearningRateAreTransformers) {
  const std::string folder = golden::Folder("tiny/pad_tied_v5");
  const auto expected = golden::ReadJson(folder + "/trainer.json");
  const auto& settings = expected["settings"];
  liger::v1::TrainingSpec training;
  training.set_learning_rate(settings["learning_rate"]);
  training.set_lr_scheduler_type(settings["lr_scheduler_type"]);
  training.set_warmup_steps(settings["warmup_steps"]);
  training.set_weight_decay(settings["weight_decay"]);
  const size_t accumulation = settings["gradient_accumulation_steps"];
  const auto& steps = expected["steps"];
  const auto schedule = LrSchedule::FromSpec(training, static_cast<int64_t>(steps.size()));

  SftObjective objective;
  const auto model = golden::LoadModel(folder, GetParam());
  golden::Trainee trainee(objective, *model, AdamWOptions::FromSpec(training));
  const auto batches = golden::ReadJson(folder + "/expected.json")["sft_batches"];
  ASSERT_EQ(batches.size(), steps.size() * accumulation);
  for (size_t step = 0; step < steps.size(); ++step) {
    std::vector<Batch> micro_batches;
    for (size_t i = 0; i < accumulation; ++i) {
      micro_batches.push_back(golden::SftBatch(batches[step * accumulation + i]));
    }
    const double learning_rate = schedule.LearningRate(static_cast<int64_t>(step));
    EXPECT_NEAR(learning_rate, steps[step]["learning_rate"].get<double>(), 1e-15) << step;
    const StepResult result =
        trainee.Step(micro_batches, learning_rate, settings["max_grad_norm"].get<double>());
    EXPECT_NEAR(result.loss, steps[step]["loss"].get<double>(), 1e-5) << step;
    EXPECT_NEAR(result.metrics.Means().at("loss"), result.loss, 1e-6) << step;
    EXPECT_NEAR(result.grad_norm, steps[step]["grad_norm"].get<double>(), 1e-5) << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, TrainerGoldenTest, testing::Values("LIGER", "BASELINE"));

// ---- The head's gradient ----

// A tied head whose gradient at `rows`, tokens that the inputs do not hold, is the
// head's alone, with its exact value for the hidden states that the model has.
struct HeadCase {
  explicit HeadCase(liger::v1::Precision preset)
      : plan(Plan(preset)),
        model(golden::LoadModel(golden::Folder("tiny/gqa_tied_v5"), "LIGER")),
        trainee(objective, InStorageDtype(*model, plan), options, plan) {
    for (const size_t sequence : {1, 3}) {
      const auto rows = golden::ReadJson(golden::Folder("tiny/gqa_tied_v5") +
                                         "/expected.json")["sft_batches"][0][sequence];
      micro_batches.push_back(golden::SftBatch(nlohmann::json::array({rows})));
      total_targets += micro_batches.back().num_target_tokens;
    }
    at::Tensor absent_V = at::ones({model->config().vocab_size}, at::kBool);
    for (const Batch& batch : micro_batches)
      absent_V.index_fill_(0, batch.input_ids_T.to(at::kLong), 0);
    rows = absent_V.nonzero().view(-1);
  }

  static CausalLM& InStorageDtype(CausalLM& model, const PrecisionPlan& plan) {
    model.to(plan.storage);
    return model;
  }

  at::Tensor Exact() {
    const at::NoGradGuard no_grad;
    const at::Tensor head_VD = model->HeadWeight().to(at::kDouble);
    at::Tensor exact_VD = at::zeros_like(head_VD);
    for (const Batch& batch : micro_batches) {
      const at::Tensor hidden_TD = model->Hidden(ToModelInput(batch, *model)).to(at::kDouble);
      const at::Tensor targets_T = NextTokenTargets(batch.labels_T, batch.cu_seqlens_S1);
      const at::Tensor valid = targets_T.ne(kIgnoredLabel).nonzero().view(-1);
      at::Tensor dz = hidden_TD.index_select(0, valid).matmul(head_VD.t()).softmax(-1);
      const at::Tensor y = targets_T.to(at::kLong).index_select(0, valid).unsqueeze(1);
      dz.scatter_add_(1, y, at::full(y.sizes(), -1.0, at::kDouble));
      exact_VD += dz.t().matmul(hidden_TD.index_select(0, valid)) / double(total_targets);
    }
    return exact_VD.index_select(0, rows);
  }

  // As autograd has it, without the trainer's buffer.
  at::Tensor ByAutograd() {
    StepContext context;
    context.loss_tokens = total_targets;
    for (const Batch& batch : micro_batches) {
      objective.Forward(*model, batch, context).loss.backward();
    }
    const at::Tensor grad = trainee.parameters().Gradients()[0];
    trainee.parameters().ZeroGradients();
    return grad.index_select(0, rows);
  }

  at::Tensor OfStep() { return HeadGradientOfStep(trainee, micro_batches).index_select(0, rows); }

  SftObjective objective;
  const AdamWOptions options{.beta1 = 0};
  const PrecisionPlan plan;
  const std::shared_ptr<CausalLM> model;
  golden::Trainee trainee;
  std::vector<Batch> micro_batches;
  int64_t total_targets = 0;
  at::Tensor rows;
};

TEST(HeadGradientTest, MixedPrecisionAddsItUpInFp32) {
  HeadCase c(liger::v1::PRECISION_BF16_MIXED);
  ASSERT_GT(c.rows.numel(), 30);
  ASSERT_EQ(c.trainee.parameters().entries()[0].name, kHead);
  const at::Tensor exact = c.Exact();
  const double rounded = golden::RelativeError(c.ByAutograd(), exact);
  const at::Tensor summed = c.OfStep();
  EXPECT_LT(golden::RelativeError(summed, exact), 0.8 * rounded);
  EXPECT_FALSE(summed.to(at::kBFloat16).to(at::kFloat).equal(summed)) << "rounded on the way";
}

TEST(HeadGradientTest, Bf16GradientsAreRoundedOnce) {
  HeadCase mixed(liger::v1::PRECISION_BF16_MIXED), bf16(liger::v1::PRECISION_BF16_NEAREST);
  EXPECT_TRUE(bf16.OfStep().equal(mixed.OfStep().to(at::kBFloat16)));
}

TEST(HeadGradientTest, Fp32IsAutogradsAndNothingIsLeftForTheNextStep) {
  HeadCase c(liger::v1::PRECISION_FP32);
  const at::Tensor expected = c.ByAutograd();
  EXPECT_LT(golden::RelativeError(expected, c.Exact()), 1e-6);
  for (int step = 0; step < 2; ++step) {
    EXPECT_LT(golden::RelativeError(c.OfStep(), expected), 1e-6) << step;
    EXPECT_FALSE(c.model->HeadWeight().grad().defined());
  }
}

// Memory that nobody has written is NaN while this lives.
class NanMemory {
 public:
  NanMemory() { at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true); }
  ~NanMemory() { at::globalContext().setDeterministicAlgorithms(false, false); }
};

// Nobody zeroes the head's buffer before a step: the first forward pass writes over it, whatever
// comes first.
TEST(HeadGradientTest, TheFirstForwardPassWritesOverTheBuffer) {
  const NanMemory nan_memory;
  HeadCase c(liger::v1::PRECISION_FP32);
  const at::Tensor expected = c.ByAutograd();
  Batch no_targets = c.micro_batches[0];
  no_targets.labels_T = at::full_like(no_targets.labels_T, kIgnoredLabel);
  no_targets.num_target_tokens = 0;
  const Batch no_rows;
  for (const Batch& first : {no_targets, no_rows}) {
    std::vector<Batch> micro_batches = c.micro_batches;
    micro_batches.insert(micro_batches.begin(), first);
    const at::Tensor head = HeadGradientOfStep(c.trainee, micro_batches).index_select(0, c.rows);
    EXPECT_LT(golden::RelativeError(head, expected), 1e-6);
  }
}

// Nothing to learn from: zeros, not what was in the memory.
TEST(HeadGradientTest, OfNoMicroBatchIsZero) {
  const NanMemory nan_memory;
  HeadCase c(liger::v1::PRECISION_FP32);
  const StepResult result = c.trainee.Step({Batch()}, /*learning_rate=*/0, /*max_grad_norm=*/0);
  EXPECT_EQ(result.grad_norm, 0);
}

// Frozen, it has no gradient to add up; the body's must not suffer.
TEST(HeadGradientTest, AFrozenHeadIsLeftAlone) {
  SftObjective objective;
  const auto model = golden::LoadModel(golden::Folder("tiny/mha_untied_hub"), "LIGER");
  model->HeadWeight().set_requires_grad(false);
  golden::Trainee trainee(objective, *model, {}, {});
  const auto batches =
      golden::ReadJson(golden::Folder("tiny/mha_untied_hub") + "/expected.json")["sft_batches"];
  EXPECT_GT(trainee.Step({golden::SftBatch(batches[0])}, 1e-3, 0).grad_norm, 0);
  EXPECT_FALSE(model->HeadWeight().grad().defined());
}

// Remembers the fp32 buffer of the head without keeping it.
class WatchedParameters : public TrainableParameters {
 public:
  using TrainableParameters::TrainableParameters;
  std::optional<GradientSum> DirectGradient(const at::Tensor& leaf) override {
    auto result = TrainableParameters::DirectGradient(leaf);
    if (result) buffer_ = c10::weak_intrusive_ptr<at::TensorImpl>(result->sum.getIntrusivePtr());
    return result;
  }
  bool holds_buffer() const { return buffer_ && !buffer_->expired(); }

 private:
  std::optional<c10::weak_intrusive_ptr<at::TensorImpl>> buffer_;
};

// Of a head that is not the embedding it is 2.1 GB at 128256 x 4096, beside all other gradients at
// the end of the backward pass.
TEST(HeadGradientTest, Fp32BufferGoesBeforeTheLayersGradientsCome) {
  const PrecisionPlan plan = Plan(liger::v1::PRECISION_BF16_STOCHASTIC);
  const std::string folder = golden::Folder("tiny/mha_untied_hub");
  SftObjective objective;
  const auto model = golden::LoadModel(folder, "LIGER");
  model->to(plan.storage);
  WatchedParameters parameters(NamedLeaves(*model), plan);
  const auto optimizer = MakeOptimizer(liger::v1::TrainingSpec(), parameters, plan);
  const auto strategy = MakeSingle();
  strategy->OpenDevice(at::kCPU);
  const StopFlag stop;
  const StepParts parts{*model, objective, parameters, *optimizer, *strategy, stop};
  strategy->Attach(parameters, FinishedBeforeBackward(parts));
  int passes = 0;
  parameters.ListenToGradients([&, embedding = parameters.IndexOf(model->EmbeddingWeight())](
                                   size_t index) {
    if (index != embedding) return;
    EXPECT_EQ(parameters.holds_buffer(), ++passes == 1);  // the second micro-batch adds to it
  });
  const auto rows = golden::ReadJson(folder + "/expected.json")["sft_batches"];
  const StepResult result = RunStep(
      parts, {golden::SftBatch(rows[0]), golden::SftBatch(rows[1])}, 1, /*learning_rate=*/1e-4, 0);
  EXPECT_GT(result.grad_norm, 0);
  EXPECT_EQ(passes, 2);
}

}  // namespace
}  // namespace liger::trainer
