// SmolLM2-135M against transformers in fp64 (tools/fixtures/model_fixtures.py).
#include <ATen/Version.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "tests/paths.h"
#include "tests/unit/models/golden.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

constexpr int kProjections = 8;

std::string ModelDir() {
  const char* dir = std::getenv("LIGER_SMOLLM2_DIR");
  return dir ? dir : SourceDir() + "/.cache/models-v2/smollm2-135m";
}

uint64_t SplitMix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Dot products with eight vectors of random signs: for any difference d of two
// tensors, the mean square of its projections estimates |d|^2.
std::array<double, kProjections> Projections(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kFloat).contiguous();
  const float* values = flat.const_data_ptr<float>();
  std::array<double, kProjections> sums{};
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const uint64_t bits = SplitMix64(static_cast<uint64_t>(i));
    for (int k = 0; k < kProjections; ++k) {
      sums[k] += (bits >> k) & 1 ? -double{values[i]} : double{values[i]};
    }
  }
  return sums;
}

double RootMeanSquareOfDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

std::vector<double> Samples(const at::Tensor& tensor, size_t count) {
  const at::Tensor flat = tensor.detach().flatten();
  std::vector<double> samples;
  for (size_t j = 0; j < count; ++j) {
    const uint64_t index =
        SplitMix64(j + (uint64_t{1} << 40)) % static_cast<uint64_t>(flat.numel());
    samples.push_back(flat[static_cast<int64_t>(index)].item<double>());
  }
  return samples;
}

// How far transformers in fp32 is from fp64 on a CPU of this kind: relative L2 of the whole
// tensor, root mean square of the samples.
struct Yardstick {
  double error, samples_error;
};

// Relative L2 error at most twice that of transformers in fp32, with a floor of 1e-6.
void ExpectClose(const at::Tensor& actual, const nlohmann::json& expected, const Yardstick& theirs,
                 const std::string& name) {
  constexpr double kFloor = 1e-6;
  const double norm = expected["norm"].get<double>();
  const auto p = Projections(actual);
  const double ours =
      RootMeanSquareOfDifference({p.begin(), p.end()},
                                 expected["projections"].get<std::vector<double>>()) /
      norm;
  EXPECT_LE(ours, std::max(2 * theirs.error, kFloor)) << name;

  const auto samples = expected["samples"].get<std::vector<double>>();
  const double rms = norm / std::sqrt(static_cast<double>(actual.numel()));
  const double our_samples = RootMeanSquareOfDifference(Samples(actual, samples.size()), samples);
  EXPECT_LE(our_samples, std::max({2 * theirs.samples_error, 2 * theirs.error * rms, kFloor * rms}))
      << name;
}

class SmolLm2Test : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(std::filesystem::exists(ModelDir() + "/model.safetensors"))
        << "no SmolLM2 in " << ModelDir() << ": run tools/fetch_smollm2, or set LIGER_SMOLLM2_DIR";
    expected_ = golden::ReadJson(golden::Folder("smollm2/expected.json"));
    // expected.json has it of a CPU with AVX-512.
    if (at::get_cpu_capability() != "AVX512") {
      theirs_ = golden::ReadJson(golden::Folder("smollm2/fp32_avx2.json"));
    }
  }

  static Yardstick YardstickOf(const std::string& name) {
    if (!theirs_.is_null()) {
      const auto& tensor = theirs_["tensors"].at(name);
      return {tensor["error"].get<double>(), tensor["samples_error"].get<double>()};
    }
    const auto& tensor = expected_["tensors"].at(name);
    return {tensor["fp32_error"].get<double>(),
            RootMeanSquareOfDifference(tensor["fp32_samples"].get<std::vector<double>>(),
                                       tensor["samples"].get<std::vector<double>>())};
  }

  std::shared_ptr<CausalLM> Model() const { return golden::LoadModel(ModelDir(), GetParam()); }

  void ExpectTraining(Objective& objective, const std::string& method) const {
    std::vector<Batch> batches;
    for (const auto& rows : expected_.at(method + "_batches")) {
      batches.push_back(method == "sft" ? golden::SftBatch(rows) : golden::PairBatch(rows));
    }
    const auto model = Model();
    const auto history =
        golden::Train(objective, *model, batches, expected_.at("lr").get<double>());
    ASSERT_EQ(history.size(), 5u);
    for (size_t step = 0; step < history.size(); ++step) {
      EXPECT_NEAR(history[step].at("loss"), expected_.at(method)[step]["loss"].get<double>(), 1e-4)
          << "step " << step;
    }
  }

  static nlohmann::json expected_;
  static nlohmann::json theirs_;  // null: in expected_
};

nlohmann::json SmolLm2Test::expected_;
nlohmann::json SmolLm2Test::theirs_;

TEST_P(SmolLm2Test, LogitsAndGradients) {
  const auto model = Model();
  double squares = 0;
  for (const at::Tensor& p : model->parameters()) {
    squares += std::pow(p.detach().norm(2, at::kDouble).item<double>(), 2);
  }
  const double norm = std::sqrt(squares);
  ASSERT_NEAR(norm, expected_["parameter_norm"].get<double>(), 1e-6 * norm)
      << "these are not the weights that the fixture was made with";

  const auto& tensors = expected_["tensors"];
  const Batch batch = golden::SftBatch(expected_["sft_batches"][0]);
  {
    const at::NoGradGuard no_grad;
    ExpectClose(model->Logits(model->Hidden(ToModelInput(batch, *model))), tensors["logits"],
                YardstickOf("logits"), "logits");
  }
  SftObjective objective;
  const LossOutput out = golden::WholeStep(objective, *model, batch);
  const double loss_error = theirs_.is_null() ? 0 : theirs_["loss_error"].get<double>();
  EXPECT_NEAR(out.metrics.Means().at("loss"), expected_["fp64_loss"].get<double>(),
              std::max(1e-5, 2 * loss_error));
  out.loss.backward();
  EXPECT_EQ(tensors.size(), model->parameters().size() + 1);
  for (const auto& item : model->named_parameters()) {
    ExpectClose(item.value().grad(), tensors.at(item.key()), YardstickOf(item.key()), item.key());
  }
}

TEST_P(SmolLm2Test, FiveSftSteps) {
  SftObjective objective;
  ExpectTraining(objective, "sft");
}

TEST_P(SmolLm2Test, FiveOrpoSteps) {
  OrpoObjective objective(expected_.at("beta").get<double>());
  ExpectTraining(objective, "orpo");
}

INSTANTIATE_TEST_SUITE_P(Kernels, SmolLm2Test, testing::Values("LIGER", "BASELINE"));

}  // namespace
}  // namespace liger::trainer
