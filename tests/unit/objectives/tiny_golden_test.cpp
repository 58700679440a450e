// Tiny random models of every family against transformers and TRL in fp32
// (tools/fixtures/model_fixtures.py).
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/models/golden.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"

namespace liger::trainer {
namespace {

constexpr double kTolerance = 1e-5;

class TinyGoldenTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  std::shared_ptr<CausalLM> Model() const {
    return golden::LoadModel(folder_, std::get<1>(GetParam()));
  }

  std::vector<Batch> Batches(const std::string& method) const {
    std::vector<Batch> batches;
    for (const auto& rows : expected_.at(method + "_batches")) {
      batches.push_back(method == "sft" ? golden::SftBatch(rows) : golden::PairBatch(rows));
    }
    return batches;
  }

  void ExpectGradients(Objective& objective, const std::string& method) const {
    const auto model = Model();
    golden::WholeStep(objective, *model, Batches(method)[0]).loss.backward();
    const auto file = SafetensorsFile::Open(folder_ + "/expected.safetensors");
    for (const auto& item : model->named_parameters()) {
      const at::Tensor expected = file->View(method + "." + item.key());
      EXPECT_LT(golden::RelativeError(item.value().grad(), expected), kTolerance) << item.key();
    }
  }

  void ExpectTraining(Objective& objective, const std::string& method) const {
    const auto model = Model();
    const auto history =
        golden::Train(objective, *model, Batches(method), expected_.at("lr").get<double>());
    const auto& expected = expected_.at(method);
    ASSERT_EQ(history.size(), expected.size());
    ASSERT_EQ(history.size(), 10u);
    for (size_t step = 0; step < history.size(); ++step) {
      EXPECT_EQ(history[step].size(), expected[step].size());
      for (const auto& [name, value] : expected[step].items()) {
        EXPECT_NEAR(history[step].at(name), value.get<double>(), kTolerance)
            << name << " at step " << step;
      }
    }
    // The ten steps must matter, or the comparison above proves nothing about them.
    const double untrained =
        golden::WholeStep(objective, *Model(), Batches(method).back()).metrics.Means().at("loss");
    EXPECT_GT(std::abs(untrained - expected.back()["loss"].get<double>()), 100 * kTolerance);
  }

  double beta() const { return expected_.at("beta").get<double>(); }

  const std::string folder_ = golden::Folder("tiny/" + std::get<0>(GetParam()));
  const nlohmann::json expected_ = golden::ReadJson(folder_ + "/expected.json");
};

TEST_P(TinyGoldenTest, SftGradients) {
  SftObjective objective;
  ExpectGradients(objective, "sft");
}

TEST_P(TinyGoldenTest, OrpoGradients) {
  OrpoObjective objective(beta());
  ExpectGradients(objective, "orpo");
}

TEST_P(TinyGoldenTest, TenSftSteps) {
  SftObjective objective;
  ExpectTraining(objective, "sft");
}

TEST_P(TinyGoldenTest, TenOrpoSteps) {
  OrpoObjective objective(beta());
  ExpectTraining(objective, "orpo");
}

INSTANTIATE_TEST_SUITE_P(Cases, TinyGoldenTest,
                         testing::Combine(testing::ValuesIn(golden::TinyCases()),
                                          testing::Values("LIGER", "BASELINE", "cross_entropy",
                                                          "fused_linear_cross_entropy",
                                                          "fused_linear_logprob")));

}  // namespace
}  // namespace liger::trainer
