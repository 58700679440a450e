#include "worker/trainer/checkpoint/weights.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "tests/unit/checkpoint/test_util.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::vector<NamedTensor> SomeTensors() {
  at::manual_seed(1);
  return {{"model.embed_tokens.weight", at::randn({10, 4})},
          {"model.norm.weight", at::randn({4})},
          {"lm_head.weight", at::randn({10, 4})}};
}

void Save(const std::string& dir, const std::vector<NamedTensor>& tensors, int64_t max_shard_bytes,
          at::ScalarType dtype = at::kFloat) {
  OutputFolder folder(dir, /*overwrite=*/true, 0);
  WriteWeights(folder, tensors, dtype, max_shard_bytes);
  folder.Commit();
}

std::vector<ExpectedTensor> Expected(const std::vector<NamedTensor>& tensors) {
  std::vector<ExpectedTensor> expected;
  for (const NamedTensor& t : tensors) expected.push_back({t.name, t.tensor.sizes().vec()});
  return expected;
}

class WeightsTest : public testing::TestWithParam<int64_t> {
 protected:
  const TempDir dir_;
};

TEST_P(WeightsTest, RoundTripsThroughOneFileOrShards) {
  const auto tensors = SomeTensors();
  Save(dir_ / "m", tensors, GetParam());
  const WeightReader reader = WeightReader::Open(dir_ / "m");
  std::vector<NamedTensor> targets;
  for (const NamedTensor& t : tensors) {
    targets.push_back({t.name, at::zeros_like(t.tensor).requires_grad_(true)});
  }
  reader.LoadInto(targets);
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(at::equal(targets[i].tensor, tensors[i].tensor)) << tensors[i].name;
    EXPECT_TRUE(targets[i].tensor.requires_grad());
  }
  EXPECT_EQ(reader.total_parameters(), 84);
  EXPECT_EQ(reader.total_bytes(), 336);
}

INSTANTIATE_TEST_SUITE_P(MaxShardBytes, WeightsTest, testing::Values(1'000'000, 176, 160, 1));

TEST(Weights, ShardsAreNamedAndIndexedAsHuggingFaceDoes) {
  const TempDir dir;
  Save(dir / "m", SomeTensors(), 176);
  EXPECT_TRUE(std::filesystem::exists(dir / "m/model-00001-of-00002.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(dir / "m/model-00002-of-00002.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(dir / "m/model.safetensors"));
  const auto index = nlohmann::json::parse(ReadFile(dir / "m/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 336);
  EXPECT_EQ(index["weight_map"]["model.norm.weight"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["lm_head.weight"], "model-00002-of-00002.safetensors");
}

TEST(Weights, NamesEachKindOfMismatchWithBothShapes) {
  const TempDir dir;
  Save(dir / "m", SomeTensors(), 1'000'000);
  const WeightReader reader = WeightReader::Open(dir / "m");
  auto expected = Expected(SomeTensors());
  reader.Check(expected);

  expected[1].shape = {5};                               // wrong shape
  expected.push_back({"model.layers.0.mlp.w", {7, 3}});  // missing
  expected.erase(expected.begin() + 2);                  // extra: lm_head.weight
  const auto failure = FailureOf([&] { reader.Check(expected); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_CONFIG);
  EXPECT_THAT(failure.message(), AllOf(HasSubstr("model.norm.weight is [4] and the model's is [5]"),
                                       HasSubstr("missing: model.layers.0.mlp.w [7, 3]"),
                                       HasSubstr("unknown to the model: lm_head.weight [10, 4]"),
                                       HasSubstr(dir / "m")));
  EXPECT_NE(failure.action(), "");
}

TEST(Weights, IgnorableTensorsMayBeThere) {
  const TempDir dir;
  Save(dir / "m", SomeTensors(), 1'000'000);
  const WeightReader reader = WeightReader::Open(dir / "m");
  auto expected = Expected(SomeTensors());
  expected.pop_back();
  const auto ignorable = [](std::string_view name) { return name == "lm_head.weight"; };
  reader.Check(expected, ignorable);
  EXPECT_THAT(FailureOf([&] { reader.Check(expected); }).message(), HasSubstr("lm_head.weight"));
}

TEST(Weights, LongListsAreCut) {
  const TempDir dir;
  Save(dir / "m", SomeTensors(), 1'000'000);
  auto expected = Expected(SomeTensors());
  for (int i = 0; i < 30; ++i) expected.push_back({"absent." + std::to_string(i), {1}});
  const auto failure = FailureOf([&] { WeightReader::Open(dir / "m").Check(expected); });
  EXPECT_THAT(failure.message(),
              AllOf(HasSubstr("absent.3 [1] and 26 more"), Not(HasSubstr("absent.4 "))));
}

TEST(Weights, QuantisedTensorsAreRefusedByName) {
  const TempDir dir;
  Save(dir / "m", {{"w", at::zeros({2, 2}, at::kChar)}}, 1'000'000);
  const auto failure = FailureOf([&] { WeightReader::Open(dir / "m").Check({{"w", {2, 2}}}); });
  EXPECT_THAT(failure.message(), HasSubstr("quantised: w (I8)"));
}

TEST(Weights, LoadsNothingWhenTheCheckFails) {
  const TempDir dir;
  Save(dir / "m", SomeTensors(), 1'000'000);
  std::vector<NamedTensor> targets = {{"model.embed_tokens.weight", at::zeros({10, 4})},
                                      {"model.norm.weight", at::zeros({3})}};
  FailureOf([&] { WeightReader::Open(dir / "m").LoadInto(targets); });
  EXPECT_TRUE(at::equal(targets[0].tensor, at::zeros({10, 4})));
}

TEST(Weights, SaysWhichOtherFormatsAreThere) {
  const TempDir dir;
  WriteFile(dir / "pytorch_model.bin", "x");
  const auto failure = FailureOf([&] { WeightReader::Open(dir.path()); });
  EXPECT_THAT(failure.message(), HasSubstr("found pytorch_model.bin"));
  EXPECT_THAT(failure.action(), HasSubstr("Convert"));
}

TEST(Weights, BrokenIndexesAreRefused) {
  const TempDir dir;
  Save(dir / "m", SomeTensors(), 176);
  const std::string path = dir / "m/model.safetensors.index.json";
  const auto index = nlohmann::json::parse(ReadFile(path));
  const auto open_with = [&](const std::string& text) {
    WriteFile(path, text);
    return FailureOf([&] { WeightReader::Open(dir / "m"); }).message();
  };
  auto wrong = index;
  wrong["weight_map"]["ghost"] = "model-00001-of-00002.safetensors";
  EXPECT_THAT(open_with(wrong.dump()), HasSubstr("says that tensor ghost is in"));
  wrong = index;
  wrong["weight_map"]["lm_head.weight"] = "model-00009-of-00002.safetensors";
  EXPECT_THAT(open_with(wrong.dump()), HasSubstr("model-00009-of-00002.safetensors: No such file"));
  wrong["weight_map"]["lm_head.weight"] = "../secret.safetensors";
  EXPECT_THAT(open_with(wrong.dump()), HasSubstr("not a file name"));
  EXPECT_THAT(open_with("{}"), HasSubstr("no weight_map"));
  EXPECT_THAT(open_with("{\n  \"weight_map\": {,\n"), HasSubstr("line 2, column 18"));
}

TEST(Weights, OneTensorInTwoShardsIsRefused) {
  const TempDir dir;
  Save(dir / "m", SomeTensors(), 176);
  std::filesystem::copy_file(dir / "m/model-00001-of-00002.safetensors",
                             dir / "m/model-00002-of-00002.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(FailureOf([&] { WeightReader::Open(dir / "m"); }).message(),
              HasSubstr("is in two shards"));
}

}  // namespace
}  // namespace liger::trainer
