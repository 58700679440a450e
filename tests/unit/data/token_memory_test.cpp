// Tokenised rows that are larger than what memory may hold of them.
#include <ATen/core/Tensor.h>

#include <numeric>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/batch.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/token_cache.h"
#include "worker/trainer/data/token_spill.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using testing::ElementsAre;

// Memory of this process that the system cannot take back without a swap, bytes.
int64_t AnonymousMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kilobytes = 0;
    if (word == "RssAnon:" && status >> kilobytes) return kilobytes * 1024;
  }
  ADD_FAILURE() << "no RssAnon in /proc/self/status";
  return 0;
}

constexpr int64_t kRows = 40'000;
constexpr int64_t kTokens = 200;  // of a row: 64 MB in all
constexpr int64_t kBound = 8 << 20;

std::string RowsOf(int64_t rows, int64_t tokens) {
  std::string text;
  for (int64_t i = 0; i < rows; ++i) {
    text += "{\"input_ids\": [0";
    for (int64_t t = 1; t < tokens; ++t) text += "," + std::to_string(1 + (i + t) % 800);
    text += "]}\n";
  }
  return text;
}

class TokenMemoryTest : public testing::Test {
 protected:
  Dataset Load(const TempFile& file, LoadOptions options) const {
    options.train_files = {{file.path()}};
    return LoadDataset({}, options, *tokenizer_, nullptr);
  }
  const std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::FromFolder(SourceDir() + "/tests/golden/data/chat");
};

TEST_F(TokenMemoryTest, RowsBeyondTheBoundAreMapped) {
  const auto file = std::make_unique<TempFile>(RowsOf(kRows, kTokens), "rows.jsonl");
  LoadOptions options;
  options.most_token_bytes = kBound;
  const int64_t before = AnonymousMemory();
  const Dataset dataset = Load(*file, options);
  EXPECT_EQ(dataset.train_stats.tokens, kRows * kTokens);
  const int64_t used = AnonymousMemory() - before;
  // The bound, the last rows that were read, and what is kept of each sequence.
  EXPECT_LT(used, kBound + (32 << 20)) << "of " << kRows * kTokens * 8;
  for (const int64_t row : {int64_t{0}, kRows / 2, kRows - 1}) {
    const Batch batch = MakeBatch(dataset.train, std::vector<int64_t>{row});
    EXPECT_EQ(batch.input_ids_T.size(0), kTokens);
    EXPECT_EQ(batch.input_ids_T.const_data_ptr<int64_t>()[5], 1 + (row + 5) % 800);
  }
  RecordProperty("used_bytes", std::to_string(used));
}

ExampleSet SomeRows() {
  ExampleSet set;
  set.sequences = {{{1, 2, 3}, {-100, 2, 3}}, {{4, 5}, {-100, 5}}, {{}, {}}, {{6, 7}, {-100, 7}}};
  return set;
}

TEST_F(TokenMemoryTest, ViewsReadLikeVectorsAndBecomeThemWhereWrittenTo) {
  ExampleSet set = SomeRows();
  TokenSpill("rows", "", 1).Bound(&set);
  EXPECT_TRUE(set.sequences[0].input_ids.is_view());
  EXPECT_FALSE(set.sequences[2].input_ids.is_view());  // nothing to keep
  for (size_t i = 0; i < set.sequences.size(); ++i) {
    EXPECT_EQ(set.sequences[i].input_ids, SomeRows().sequences[i].input_ids);
    EXPECT_EQ(set.sequences[i].labels, SomeRows().sequences[i].labels);
  }
  const TokenIds part = set.sequences[0].input_ids.Slice(1, 3);
  EXPECT_TRUE(part.is_view());
  set.sequences[0].labels[0] = 9;
  EXPECT_THAT(set.sequences[0].labels, ElementsAre(9, 2, 3));
  set = {};
  EXPECT_THAT(part, ElementsAre(2, 3)) << "it keeps the file";
}

TEST_F(TokenMemoryTest, WhatIsAddedLaterIsKeptLater) {
  ExampleSet set = SomeRows();
  TokenSpill spill("rows", "", 30);
  spill.Bound(&set);
  EXPECT_TRUE(set.sequences[0].input_ids.is_view());
  set.sequences.push_back({{8}, {8}});
  spill.Bound(&set);
  EXPECT_FALSE(set.sequences.back().input_ids.is_view()) << "within the bound";
  set.sequences.push_back({std::vector<int32_t>(10, 1), std::vector<int32_t>(10, 1)});
  spill.Bound(&set);
  EXPECT_TRUE(set.sequences.back().labels.is_view());
  EXPECT_TRUE(set.sequences[4].labels.is_view());
  EXPECT_EQ(set.sequences[4].labels, TokenIds({8}));
}

TEST_F(TokenMemoryTest, AFolderWithoutRoomIsNamed) {
  ExampleSet set = SomeRows();
  const auto failure = FailureOf([&] { TokenSpill("rows.jsonl", "/nowhere", 1).Bound(&set); });
  EXPECT_THAT(failure.message(),
              testing::AllOf(testing::HasSubstr("rows.jsonl"),
                             testing::HasSubstr("tokenised to a file in /nowhere")));
}

TEST_F(TokenMemoryTest, RowsOfTheCacheAreViewsOfItsFile) {
  const TempFile file(RowsOf(50, 20), "rows.jsonl"), folder("", "empty");
  const TokenCacheOptions kept{.dir = folder.path() + ".cache"};
  Dataset made, found;
  for (Dataset* dataset : {&made, &found}) {
    TokenCache cache(kept, [] { return std::string("inputs"); });
    LoadOptions options;
    options.cache = &cache;
    *dataset = Load(file, options);
  }
  EXPECT_FALSE(made.train.sequences[0].input_ids.is_view());
  EXPECT_TRUE(found.train.sequences[0].input_ids.is_view());
  // Also when the file has lost its name, which another process may take.
  std::filesystem::remove_all(kept.dir);
  for (size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(found.train.sequences[i].input_ids, made.train.sequences[i].input_ids);
    EXPECT_EQ(found.train.sequences[i].labels, made.train.sequences[i].labels);
  }
}

}  // namespace
}  // namespace liger::trainer
