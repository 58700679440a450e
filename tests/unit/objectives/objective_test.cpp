#include "worker/trainer/objectives/objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/models/golden.h"
#include "worker/trainer/error.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

TEST(MakeObjectiveTest, OneAMethod) {
  liger::v1::JobSpec spec;
  spec.mutable_sft();
  EXPECT_NE(dynamic_cast<SftObjective*>(MakeObjective(spec).get()), nullptr);
  spec.mutable_orpo()->set_beta(0.2);
  EXPECT_NE(dynamic_cast<OrpoObjective*>(MakeObjective(spec).get()), nullptr);
  EXPECT_FALSE(MakeObjective(spec)->NeedsReference());
  spec.mutable_dpo();
  EXPECT_TRUE(MakeObjective(spec)->NeedsReference());
  spec.mutable_kto();
  EXPECT_TRUE(MakeObjective(spec)->NeedsReference());
  EXPECT_FALSE(MakeObjective(spec)->PrecomputesReference());
  spec.mutable_kto()->set_precompute_ref_log_probs(true);
  EXPECT_TRUE(MakeObjective(spec)->PrecomputesReference());
  spec.mutable_cpo();
  EXPECT_FALSE(MakeObjective(spec)->NeedsReference());
}

TEST(MakeObjectiveTest, WhatItCannotMakeIsRefusedByName) {
  const auto refused = [](const liger::v1::JobSpec& s) {
    try {
      MakeObjective(s);
    } catch (const TrainerError& error) {
      return error.failure().field();
    }
    return std::string("accepted");
  };
  liger::v1::JobSpec spec;
  EXPECT_EQ(refused(spec), "method");
  spec.mutable_dpo()->add_loss_weights(1);
  spec.mutable_dpo()->add_loss_weights(2);
  EXPECT_EQ(refused(spec), "dpo.loss_weights");
  spec.mutable_cpo()->set_loss_type("simple");
  EXPECT_EQ(refused(spec), "cpo.loss_type");
}

TEST(NextTokenTargetsTest, ShiftWithinEachSequence) {
  const at::Tensor labels = at::tensor({10, 11, 12, -100, 21, 30}, at::kLong);
  const at::Tensor cu_seqlens = at::tensor({0, 3, 5, 6}, at::kInt);
  const at::Tensor expected = at::tensor({11, 12, -100, 21, -100, -100}, at::kLong);
  EXPECT_TRUE(NextTokenTargets(labels, cu_seqlens).equal(expected));
}

// One step of the tiny model over a list of micro-batches: loss, metrics and all gradients.
struct Step {
  double loss = 0;
  MetricSums metrics;
  std::map<std::string, at::Tensor> gradients;
};

Step RunStep(Objective& objective, const std::vector<Batch>& micro_batches,
             const std::string& kernels, bool own_head_buffer) {
  const auto model = golden::LoadModel(golden::Folder("tiny/gqa_tied_v5"), kernels);
  StepContext context;
  for (const Batch& batch : micro_batches) {
    context.loss_tokens += objective.Count(batch).loss_tokens;
    context.rows += objective.Count(batch).rows;
  }
  GradientSum head_gradient;
  if (own_head_buffer) {
    head_gradient = {at::full_like(model->HeadWeight(), std::nan("")).detach(), /*is_new=*/true};
    model->HeadWeight().mutable_grad() = head_gradient.sum;
    context.head_gradient = &head_gradient;
  }
  Step step;
  for (const Batch& batch : micro_batches) {
    const LossOutput out = objective.Forward(*model, batch, context);
    EXPECT_FALSE(objective.FusesHead(*model) && head_gradient.is_new) << "the head did not write";
    if (own_head_buffer) head_gradient.Settled();
    out.loss.backward();
    step.loss += out.loss.item<double>();
    step.metrics.Add(out.metrics);
  }
  for (const auto& item : model->named_parameters()) {
    step.gradients[item.key()] = item.value().grad();
  }
  return step;
}

void ExpectSameStep(const Step& actual, const Step& expected) {
  EXPECT_NEAR(actual.loss, expected.loss, 1e-6);
  const auto actual_means = actual.metrics.Means(), expected_means = expected.metrics.Means();
  ASSERT_EQ(actual_means.size(), expected_means.size());
  for (const auto& [name, value] : expected_means) {
    EXPECT_NEAR(actual_means.at(name), value, 2e-6 * (1 + std::abs(value))) << name;
  }
  for (const auto& [name, grad] : expected.gradients) {
    EXPECT_LT(golden::RelativeError(actual.gradients.at(name), grad), 5e-6) << name;
  }
}

class StepTest : public testing::TestWithParam<std::string> {
 protected:
  const nlohmann::json expected_ =
      golden::ReadJson(golden::Folder("tiny/gqa_tied_v5") + "/expected.json");
};

// Unequal numbers of tokens in the micro-batches: a mean of means would differ.
TEST_P(StepTest, SftDoesNotDependOnTheSplitIntoMicroBatches) {
  SftObjective objective;
  const nlohmann::json& rows = expected_["sft_batches"][0];
  const Step whole = RunStep(objective, {golden::SftBatch(rows)}, GetParam(), false);
  EXPECT_NEAR(whole.loss, expected_["sft"][0]["loss"].get<double>(), 1e-5);
  std::vector<Batch> split;
  for (const auto& row : rows) split.push_back(golden::SftBatch(nlohmann::json::array({row})));
  ExpectSameStep(RunStep(objective, split, GetParam(), false), whole);
}

TEST_P(StepTest, HeadGradientBufferIsTheSameGradient) {
  SftObjective sft;
  OrpoObjective orpo(0.1);
  const std::vector<Batch> rows = {golden::SftBatch(expected_["sft_batches"][0]),
                                   golden::SftBatch(expected_["sft_batches"][1])};
  ExpectSameStep(RunStep(sft, rows, GetParam(), true), RunStep(sft, rows, GetParam(), false));
  const std::vector<Batch> pairs = {golden::PairBatch(expected_["orpo_batches"][0])};
  ExpectSameStep(RunStep(orpo, pairs, GetParam(), true), RunStep(orpo, pairs, GetParam(), false));
}

// TRL averages the micro-batches of an accumulated step.
TEST_P(StepTest, OrpoOfEqualMicroBatchesIsTheirMean) {
  OrpoObjective objective(0.1);
  const std::vector<Batch> batches = {golden::PairBatch(expected_["orpo_batches"][0]),
                                      golden::PairBatch(expected_["orpo_batches"][1])};
  const Step both = RunStep(objective, batches, GetParam(), false);
  const double first = RunStep(objective, {batches[0]}, GetParam(), false).loss;
  const double second = RunStep(objective, {batches[1]}, GetParam(), false).loss;
  EXPECT_NEAR(both.loss, (first + second) / 2, 1e-6);
  EXPECT_NEAR(both.metrics.Means().at("loss"), both.loss, 1e-6);
}

TEST_P(StepTest, EvaluationGivesTheSameMetricsWithoutAGraph) {
  const auto model = golden::LoadModel(golden::Folder("tiny/gqa_tied_v5"), GetParam());
  SftObjective sft;
  OrpoObjective orpo(0.1);
  const Batch rows = golden::SftBatch(expected_["sft_batches"][0]);
  const Batch pairs = golden::PairBatch(expected_["orpo_batches"][0]);
  for (const auto& [objective, batch] :
       {std::pair<Objective*, const Batch*>(&sft, &rows), {&orpo, &pairs}}) {
    const auto trained = golden::WholeStep(*objective, *model, *batch).metrics.Means();
    const at::NoGradGuard no_grad;
    const LossOutput evaluated = golden::WholeStep(*objective, *model, *batch);
    EXPECT_FALSE(evaluated.loss.requires_grad());
    for (const auto& [name, value] : evaluated.metrics.Means()) {
      EXPECT_NEAR(value, trained.at(name), 1e-6 * (1 + std::abs(value))) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, StepTest, testing::Values("LIGER", "BASELINE"));

}  // namespace
}  // namespace liger::trainer
