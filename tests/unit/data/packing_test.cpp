#include "worker/trainer/data/packing.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/batch.h"
#include "worker/trainer/data/epoch_order.h"
#include "worker/trainer/data/sampler.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using testing::ElementsAre;

// tools/fixtures/packing_fixtures.py
json Golden() {
  std::ifstream file(SourceDir() + "/tests/golden/data/packing.json");
  return json::parse(file);
}

std::vector<int64_t> Values(const at::Tensor& tensor) {
  const at::Tensor wide = tensor.to(at::kLong);
  return {wide.data_ptr<int64_t>(), wide.data_ptr<int64_t>() + wide.numel()};
}

// Sequences of these lengths, tokens numbered through from 1, all trained on.
ExampleSet Sequences(const std::vector<int64_t>& lengths) {
  ExampleSet set;
  int32_t token = 0;
  for (const int64_t length : lengths) {
    Example& sequence = set.sequences.emplace_back();
    for (int64_t i = 0; i < length; ++i) sequence.input_ids.push_back(++token);
    sequence.labels = sequence.input_ids;
  }
  return set;
}

TEST(MakePacks, EqualsTrlsInItsOrder) {
  const json cases = Golden()["packs"];
  ASSERT_EQ(cases.size(), 14u);
  for (const json& golden : cases) {
    const auto lengths = golden["lengths"].get<std::vector<int64_t>>();
    std::vector<Pack> expected;
    for (const json& pack : golden["packs"]) {
      Pack& pieces = expected.emplace_back();
      for (const json& piece : pack) pieces.push_back({piece[0], piece[1], piece[2]});
    }
    EXPECT_EQ(
        MakePacks(lengths, golden["max_length"], ParsePackingStrategy(golden["strategy"])),
        expected)
        << golden["name"];
  }
}

TEST(PackRows, APackIsItsPiecesSideBySide) {
  ExampleSet set = Sequences({5, 2, 3, 1});
  EXPECT_EQ(PackRows(PackingStrategy::kBfd, 4, &set), 0);
  ASSERT_EQ(set.num_rows(), 3);
  EXPECT_EQ(set.RowTokens(0), 4);
  const std::vector<int64_t> rows = {1, 0};
  const Batch batch = MakeBatch(set, rows);
  EXPECT_EQ(batch.num_rows, 2);
  EXPECT_THAT(Values(batch.input_ids_T), ElementsAre(8, 9, 10, 11, 1, 2, 3, 4));
  EXPECT_THAT(Values(batch.positions_T), ElementsAre(0, 1, 2, 0, 0, 1, 2, 3));
  EXPECT_THAT(Values(batch.cu_seqlens_S1), ElementsAre(0, 3, 4, 8));
  EXPECT_EQ(batch.max_seqlen, 4);
  EXPECT_EQ(batch.num_target_tokens, 5);  // 9 and 10; 2, 3 and 4
}

TEST(PackRows, WrappedCutsRowsAndNothingIsTrainedAcrossACut) {
  ExampleSet set = Sequences({3, 6});
  PackRows(PackingStrategy::kWrapped, 4, &set);
  ASSERT_EQ(set.num_rows(), 2);  // a third would be one token, which nothing predicts
  const Batch batch = MakeBatch(set, std::vector<int64_t>{0, 1});
  EXPECT_THAT(Values(batch.input_ids_T), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(Values(batch.positions_T), ElementsAre(0, 1, 2, 0, 0, 1, 2, 3));
  EXPECT_THAT(Values(batch.cu_seqlens_S1), ElementsAre(0, 3, 4, 8));
  EXPECT_EQ(batch.num_target_tokens, 5);
}

TEST(PackRows, LeavesOutPacksOfPromptsAlone) {
  ExampleSet set = Sequences({8, 2});
  std::fill_n(set.sequences[0].labels.begin(), 5, kIgnoredLabel);
  EXPECT_EQ(PackRows(PackingStrategy::kWrapped, 4, &set), 1);
  ASSERT_EQ(set.num_rows(), 2);
  EXPECT_THAT(set.sequences[0].input_ids, ElementsAre(5, 6, 7, 8));
}

TEST(BatchIterator, CountsPacksAndResumesAmongThem) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 57; ++i) lengths.push_back(i * 7 % 13 + 1);
  for (const PackingStrategy strategy : {PackingStrategy::kBfd, PackingStrategy::kWrapped}) {
    ExampleSet set = Sequences(lengths);
    PackRows(strategy, 20, &set);
    const BatchOptions options = {.rows_per_batch = 3, .data_seed = 4};
    BatchIterator whole(set, options);
    EXPECT_EQ(whole.batches_per_epoch(), (set.num_rows() + 2) / 3);
    for (int step = 0; step < 25; ++step) {
      BatchIterator resumed(set, options);
      resumed.Seek(whole.position());
      const auto expected = whole.NextStep(2), got = resumed.NextStep(2);
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_LE(got[i].num_rows, 3);
        EXPECT_EQ(Values(got[i].input_ids_T), Values(expected[i].input_ids_T));
        EXPECT_EQ(Values(got[i].cu_seqlens_S1), Values(expected[i].cu_seqlens_S1));
      }
    }
  }
}

TEST(GroupedByLength, EqualsTransformersGivenTheSameShuffle) {
  const json cases = Golden()["grouped"];
  ASSERT_EQ(cases.size(), 9u);
  for (const json& golden : cases) {
    const auto lengths = golden["lengths"].get<std::vector<int64_t>>();
    ASSERT_EQ(MegabatchRows(std::ssize(lengths)), golden["megabatch"].get<int64_t>());
    EXPECT_EQ(GroupedByLength(EpochOrder(std::ssize(lengths), golden["seed"], golden["epoch"]),
                              [&](int64_t row) { return lengths[row]; }),
              golden["order"].get<std::vector<int64_t>>())
        << golden["seed"] << " " << golden["epoch"];
  }
}

TEST(GroupedByLength, MegabatchesAreOfFixedSizes) {
  EXPECT_EQ(MegabatchRows(1), 1);
  EXPECT_EQ(MegabatchRows(15), 2);
  EXPECT_EQ(MegabatchRows(4096), 1024);
  EXPECT_EQ(MegabatchRows(1'000'000), 1024);
}

// Whatever the batch size and the number of ranks, the order is the same, so a
// position holds for all of them.
TEST(BatchIterator, GroupedByLengthResumesAtAnotherBatchSize) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 64; ++i) lengths.push_back(i * 37 % 61 + 1);
  const ExampleSet set = Sequences(lengths);
  BatchIterator fours(set, {.rows_per_batch = 4, .group_by_length = true, .data_seed = 3});
  std::set<int64_t> seen;
  for (int i = 0; i < 5; ++i) {
    const Batch batch = *fours.Next();
    if (i == 0) {
      EXPECT_EQ(batch.cu_seqlens_S1[1].item<int>(), 61);
    }
    for (const int64_t id : Values(batch.input_ids_T)) seen.insert(id);
  }
  BatchIterator eights(set, {.rows_per_batch = 8, .group_by_length = true, .data_seed = 3});
  eights.Seek(fours.position());
  while (const auto batch = eights.Next()) {
    for (const int64_t id : Values(batch->input_ids_T)) EXPECT_TRUE(seen.insert(id).second);
  }
  const Example& last = set.sequences.back();
  EXPECT_EQ(seen.size(), static_cast<size_t>(last.input_ids.back()));
}

TEST(MixShares, AreInProportionAndSumUp) {
  const auto shares = [](std::vector<int64_t> sizes, std::vector<double> weights) {
    return MixShares(sizes, weights);
  };
  EXPECT_THAT(shares({100, 100}, {0.9, 0.1}), ElementsAre(180, 20));
  EXPECT_THAT(shares({5, 5, 1}, {1, 1, 1}), ElementsAre(4, 4, 3));
  EXPECT_THAT(shares({3, 3}, {1, 1e-9}), ElementsAre(6, 1));
}

// Two sources of 6 and 4 rows, as rows 0 to 9.
ExampleSet Mixed(int64_t first, int64_t second) {
  ExampleSet set = Sequences(std::vector<int64_t>(10, 2));
  set.mix = {{0, 6, first}, {6, 10, second}};
  return set;
}

TEST(EpochRows, GoThroughAllOfASourceBeforeAnyRowComesAgain) {
  const ExampleSet set = Mixed(3, 7);
  std::vector<int64_t> first, second;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    const auto rows = EpochRows(set, true, 42, epoch);
    ASSERT_EQ(rows.size(), 10u);
    EXPECT_EQ(rows, EpochRows(set, true, 42, epoch));
    EXPECT_NE(rows, EpochRows(set, true, 43, epoch));
    for (const int64_t row : rows) (row < 6 ? first : second).push_back(row);
  }
  EXPECT_EQ(std::set<int64_t>(first.begin(), first.begin() + 6).size(), 6u);
  EXPECT_EQ(std::set<int64_t>(first.begin() + 6, first.end()).size(), 6u);
  std::map<int64_t, int> counts;
  for (const int64_t row : second) ++counts[row];
  for (const auto& [row, count] : counts) EXPECT_EQ(count, 7) << row;  // 28 draws of 4 rows
}

TEST(EpochRows, UnshuffledSourcesAreInterleaved) {
  EXPECT_THAT(EpochRows(Mixed(6, 3), false, 1, 0), ElementsAre(0, 6, 1, 2, 7, 3, 4, 8, 5));
  EXPECT_THAT(EpochRows(Mixed(6, 3), false, 1, 1), ElementsAre(0, 9, 1, 2, 6, 3, 4, 7, 5));
}

TEST(BatchIterator, ResumesInAMix) {
  const ExampleSet set = Mixed(3, 7);
  const BatchOptions options = {.rows_per_batch = 3, .data_seed = 8};
  BatchIterator whole(set, options);
  EXPECT_EQ(whole.batches_per_epoch(), 4);
  for (int step = 0; step < 9; ++step) {
    BatchIterator resumed(set, options);
    resumed.Seek(whole.position());
    EXPECT_EQ(Values(resumed.NextStep(1)[0].input_ids_T), Values(whole.NextStep(1)[0].input_ids_T));
  }
}

}  // namespace
}  // namespace liger::trainer
