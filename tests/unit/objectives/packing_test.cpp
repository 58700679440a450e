// A packed step against the same rows unpacked: equal loss and gradients.
#include "worker/trainer/data/packing.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/models/golden.h"
#include "worker/trainer/data/sampler.h"

namespace liger::trainer {
namespace {

// Rows of 2 to 30 tokens, some of whose labels are ignored, and some of which
// begin alike.
ExampleSet Rows(int64_t vocab_size) {
  std::mt19937 draw(11);
  ExampleSet set;
  for (int i = 0; i < 24; ++i) {
    Example& row = set.sequences.emplace_back();
    const auto length = static_cast<int>(2 + draw() % 29);
    for (int t = 0; t < length; ++t) {
      row.input_ids.push_back(i % 3 == 0 && t < 6 ? t + 1 : static_cast<int>(draw() % vocab_size));
      row.labels.push_back(t < length / 3 ? kIgnoredLabel : row.input_ids.back());
    }
  }
  return set;
}

struct Result {
  double loss = 0;
  std::vector<at::Tensor> gradients;
};

// One optimizer step over all rows, `rows_per_batch` at a time.
Result ResultOf(CausalLM& model, const ExampleSet& set, int64_t rows_per_batch) {
  liger::v1::JobSpec spec;
  spec.mutable_sft();
  const std::unique_ptr<Objective> objective = MakeObjective(spec);
  std::vector<Batch> batches = EvalBatches(set, rows_per_batch);
  StepContext context;
  for (const Batch& batch : batches) {
    const StepCounts counts = objective->Count(batch);
    context.loss_tokens += counts.loss_tokens;
    context.rows += counts.rows;
  }
  model.zero_grad();
  Result result;
  for (const Batch& batch : batches) {
    const LossOutput output = objective->Forward(model, batch, context);
    output.loss.backward();
    result.loss += output.loss.item<double>();
  }
  for (const auto& parameter : model.parameters()) {
    if (parameter.grad().defined()) result.gradients.push_back(parameter.grad().clone());
  }
  return result;
}

double GradientError(const Result& actual, const Result& expected) {
  std::vector<at::Tensor> a, b;
  for (const auto& gradient : actual.gradients) a.push_back(gradient.flatten());
  for (const auto& gradient : expected.gradients) b.push_back(gradient.flatten());
  return golden::RelativeError(at::cat(a), at::cat(b));
}

// A model and its kernels.
class PackingTest : public testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  std::shared_ptr<CausalLM> Model() const {
    return golden::LoadModel(golden::Folder(std::string("tiny/") + GetParam().first),
                             GetParam().second);
  }
};

TEST_P(PackingTest, LossAndGradientsAreThoseOfTheRows) {
  const auto model = Model();
  const ExampleSet rows = Rows(model->config().vocab_size);
  const Result unpacked = ResultOf(*model, rows, 1);
  for (const int64_t packs : {1, 2}) {
    ExampleSet packed = rows;
    PackRows(PackingStrategy::kBfd, 64, &packed);
    ASSERT_LT(packed.num_rows(), 10);
    const Result result = ResultOf(*model, packed, packs);
    EXPECT_NEAR(result.loss, unpacked.loss, 1e-6);
    const double error = GradientError(result, unpacked);
    EXPECT_LT(error, 5e-6);
    RecordProperty("gradient_error", std::to_string(error));
  }
}

// Wrapped packs are the pieces that the rows are cut into, each a row of its own.
TEST_P(PackingTest, WrappedPacksAreTheirPieces) {
  const auto model = Model();
  ExampleSet packed = Rows(model->config().vocab_size);
  PackRows(PackingStrategy::kWrapped, 50, &packed);
  ExampleSet pieces;
  pieces.sequences = packed.sequences;
  const Result result = ResultOf(*model, packed, 2), unpacked = ResultOf(*model, pieces, 1);
  EXPECT_NEAR(result.loss, unpacked.loss, 1e-6);
  EXPECT_LT(GradientError(result, unpacked), 5e-6);
}

INSTANTIATE_TEST_SUITE_P(Kernels, PackingTest,
                         testing::Values(std::pair{"gqa_tied_v5", "LIGER"},
                                         std::pair{"gqa_tied_v5", "BASELINE"},
                                         std::pair{"mistral_window_v5", "LIGER"}));

}  // namespace
}  // namespace liger::trainer
