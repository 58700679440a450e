// SFT's options: label smoothing and z-loss against transformers
// (tools/fixtures/sft_options_fixtures.py), and NEFTune's noise.
#include <ATen/ATen.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/models/golden.h"
#include "worker/trainer/objectives/neftune.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

constexpr double kSftTolerance = 1e-5, kSftCurveTolerance = 1e-4;

const nlohmann::json& Expected() {
  static const nlohmann::json expected =
      golden::ReadJson(golden::Folder("sft_options") + "/expected.json");
  return expected;
}

using Case = std::tuple<std::string, std::string>;  // name, kernels

class SftOptionsTest : public testing::TestWithParam<Case> {
 protected:
  const nlohmann::json& expected() const {
    return Expected().at("cases").at(std::get<0>(GetParam()));
  }
  std::shared_ptr<CausalLM> Model() const {
    return golden::LoadModel(golden::Folder("tiny/" + expected().at("model").get<std::string>()),
                             std::get<1>(GetParam()));
  }
  // Through JobSpec's own names, as a job file would have them.
  std::unique_ptr<Objective> MakeCase() const {
    liger::v1::JobSpec spec;
    const nlohmann::json json = {{"sft", expected().at("options")}};
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json.dump(), &spec).ok());
    return MakeObjective(spec);
  }
  std::vector<Batch> Batches() const {
    std::vector<Batch> batches;
    for (const auto& rows : Expected().at("batches")) batches.push_back(golden::SftBatch(rows));
    return batches;
  }
};

TEST_P(SftOptionsTest, GradientsOfTheFirstStep) {
  const auto model = Model();
  golden::WholeStep(*MakeCase(), *model, Batches()[0]).loss.backward();
  const auto file = SafetensorsFile::Open(golden::Folder("sft_options") + "/gradients.safetensors");
  double largest = 0;
  for (const auto& item : model->named_parameters()) {
    const at::Tensor gradient = file->View(std::get<0>(GetParam()) + "." + item.key());
    const double error = golden::RelativeError(item.value().grad(), gradient);
    EXPECT_LT(error, kSftTolerance) << item.key();
    largest = std::max(largest, error);
  }
  RecordProperty("largest_gradient_error", std::to_string(largest));
}

TEST_P(SftOptionsTest, TenSteps) {
  const auto model = Model();
  const auto objective = MakeCase();
  const auto history =
      golden::Train(*objective, *model, Batches(), Expected().at("lr").get<double>());
  const auto& steps = expected().at("steps");
  ASSERT_EQ(history.size(), steps.size());
  for (size_t step = 0; step < steps.size(); ++step) {
    EXPECT_EQ(history[step].size(), steps[step].size()) << "other metrics at step " << step;
    for (const auto& [name, value] : steps[step].items()) {
      const double tolerance = step == 0 ? kSftTolerance : kSftCurveTolerance;
      const double scale = std::max(1.0, std::abs(value.get<double>()));
      EXPECT_NEAR(history[step].at(name), value.get<double>(), tolerance * scale)
          << name << " at step " << step;
    }
  }
}

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& [name, value] : Expected().at("cases").items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Transformers, SftOptionsTest,
                         testing::Combine(testing::ValuesIn(CaseNames()),
                                          testing::Values("LIGER", "BASELINE", "cross_entropy")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

TEST(NeftuneTest, NoiseIsUniformWithinTheBoundOfEachSequence) {
  at::manual_seed(3);
  const at::Tensor cu_seqlens = at::tensor({0, 100, 104}, at::kInt);
  const auto layout = SequenceLayout::FromCuSeqlens(cu_seqlens, at::kCPU);
  const double alpha = 5;
  const at::Tensor noise = NeftuneNoise(layout, alpha, at::zeros({7, 64}));
  ASSERT_EQ(noise.sizes(), at::IntArrayRef({104, 64}));
  const auto check = [&](int64_t begin, int64_t length) {
    const at::Tensor own = noise.slice(0, begin, begin + length).to(at::kDouble);
    const double most = alpha / std::sqrt(static_cast<double>(length * 64));
    EXPECT_LE(own.abs().max().item<double>(), most * (1 + 1e-6));
    EXPECT_GT(own.abs().max().item<double>(), 0.97 * most);
    const double n = static_cast<double>(own.numel());
    EXPECT_NEAR(own.mean().item<double>() / most, 0, 4 / std::sqrt(3 * n));
    EXPECT_NEAR(own.square().mean().item<double>() / (most * most), 1.0 / 3, 2 / std::sqrt(n));
  };
  check(0, 100);
  check(100, 4);
}

// Of a group, which no noise needs.
class PlaceOf : public SequenceGroup {
 public:
  PlaceOf(int64_t size, int64_t place) : size_(size), place_(place) {}
  int64_t size() const override { return size_; }
  int64_t place() const override { return place_; }
  at::Tensor Exchange(const at::Tensor& x) const override { return x; }
  void Sum(at::Tensor) const override {}

 private:
  const int64_t size_, place_;
};

// Of whole sequences, wherever a place's tokens begin and end in them.
TEST(NeftuneTest, APlacesNoiseHasTheBoundsOfItsTokensSequences) {
  at::manual_seed(4);
  const at::Tensor cu_seqlens = at::tensor({0, 100, 104, 153}, at::kInt);
  const std::vector<int64_t> lengths = {100, 4, 49, 1};  // the last of them is padding
  for (int64_t place = 0; place < 2; ++place) {
    const auto layout = SequenceLayout::FromCuSeqlens(cu_seqlens, at::kCPU,
                                                      std::make_shared<PlaceOf>(2, place));
    const at::Tensor noise = NeftuneNoise(layout, /*alpha=*/5, at::zeros({7, 64}));
    ASSERT_EQ(noise.sizes(), at::IntArrayRef({77, 64}));
    int64_t begin = -77 * place;
    for (const int64_t length : lengths) {
      const int64_t end = std::min<int64_t>(begin + length, 77);
      const double most = 5 / std::sqrt(static_cast<double>(length * 64));
      if (end > std::max<int64_t>(begin, 0)) {
        const double largest =
            noise.slice(0, std::max<int64_t>(begin, 0), end).abs().max().item<double>();
        EXPECT_LE(largest, most * (1 + 1e-6)) << place << ", " << length;
        EXPECT_GT(largest, 0.9 * most) << place << ", " << length;
      }
      begin += length;
    }
  }
}

// Noise that turns each token's embedding into another token's.
TEST(NeftuneTest, NoiseIsAddedToTheEmbeddings) {
  for (const char* folder : {"tiny/gqa_tied_v5", "tiny/gemma2_v5"}) {
    const auto model = golden::LoadModel(golden::Folder(folder), "LIGER");
    const at::NoGradGuard no_grad;
    const Batch batch = golden::SftBatch(Expected().at("batches")[0]);
    ModelInput input = ToModelInput(batch, *model, /*may_share=*/false);
    const at::Tensor others = (input.input_ids_U + 1).remainder(97);
    input.embedding_noise_UD = model->EmbeddingWeight().index_select(0, others) -
                               model->EmbeddingWeight().index_select(0, input.input_ids_U);
    const at::Tensor noisy = model->Hidden(input);
    input.embedding_noise_UD = at::Tensor();
    input.input_ids_U = others;
    EXPECT_LT(golden::RelativeError(noisy, model->Hidden(input)), 1e-5) << folder;
  }
}

TEST(NeftuneTest, ActsInTrainingAloneAndByTheSeed) {
  const auto model = golden::LoadModel(golden::Folder("tiny/gqa_tied_v5"), "LIGER");
  const Batch batch = golden::SftBatch(Expected().at("batches")[0]);
  SftObjective plain, noisy({.neftune_noise_alpha = 5});
  const auto loss = [&](Objective& objective, uint64_t seed) {
    at::manual_seed(seed);
    return golden::WholeStep(objective, *model, batch).loss.item<double>();
  };
  EXPECT_EQ(loss(noisy, 1), loss(noisy, 1));
  EXPECT_NE(loss(noisy, 1), loss(noisy, 2));
  EXPECT_NE(loss(noisy, 1), loss(plain, 1));
  const at::NoGradGuard evaluation;
  EXPECT_EQ(loss(noisy, 1), loss(plain, 1));
}

}  // namespace
}  // namespace liger::trainer
