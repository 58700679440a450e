#ifndef LIGER_TESTS_UNIT_DATA_TOKEN_CACHE_FIXTURE_H_
#define LIGER_TESTS_UNIT_DATA_TOKEN_CACHE_FIXTURE_H_

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/token_cache.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {

inline void ExpectSameSet(const ExampleSet& actual, const ExampleSet& expected) {
  EXPECT_EQ(actual.kind, expected.kind);
  EXPECT_EQ(actual.max_length, expected.max_length);
  EXPECT_EQ(actual.keep_end, expected.keep_end);
  EXPECT_EQ(actual.desirable, expected.desirable);
  EXPECT_EQ(actual.cut_answers, expected.cut_answers);
  EXPECT_EQ(actual.pack_begins, expected.pack_begins);
  ASSERT_EQ(actual.sequences.size(), expected.sequences.size());
  for (size_t i = 0; i < actual.sequences.size(); ++i) {
    ASSERT_EQ(actual.sequences[i].input_ids, expected.sequences[i].input_ids) << i;
    ASSERT_EQ(actual.sequences[i].labels, expected.sequences[i].labels) << i;
  }
}

inline void ExpectSameStats(const DataStats& actual, const DataStats& expected) {
  EXPECT_EQ(actual.rows, expected.rows);
  EXPECT_EQ(actual.dropped_rows, expected.dropped_rows);
  EXPECT_EQ(actual.truncated_rows, expected.truncated_rows);
  EXPECT_EQ(actual.tokens, expected.tokens);
  EXPECT_EQ(actual.target_tokens, expected.target_tokens);
  EXPECT_EQ(actual.boundary_merges, expected.boundary_merges);
  EXPECT_EQ(actual.packs, expected.packs);
  EXPECT_EQ(actual.dropped_packs, expected.dropped_packs);
  EXPECT_EQ(actual.pairs, expected.pairs);
  EXPECT_EQ(actual.equal_pairs, expected.equal_pairs);
  EXPECT_EQ(actual.empty_answers, expected.empty_answers);
  EXPECT_EQ(actual.empty_prompts, expected.empty_prompts);
  EXPECT_EQ(actual.no_assistant, expected.no_assistant);
  EXPECT_EQ(actual.lost_tools, expected.lost_tools);
  EXPECT_EQ(actual.lost_tool_turns, expected.lost_tool_turns);
  EXPECT_EQ(actual.lost_developer_turns, expected.lost_developer_turns);
  EXPECT_EQ(actual.lost_reasoning, expected.lost_reasoning);
  EXPECT_EQ(actual.cut_prompts, expected.cut_prompts);
  EXPECT_EQ(actual.lost_prompts, expected.lost_prompts);
  EXPECT_EQ(actual.dropped_cut, expected.dropped_cut);
  EXPECT_EQ(actual.without_response_template, expected.without_response_template);
  EXPECT_EQ(actual.response_template_cut, expected.response_template_cut);
  EXPECT_EQ(actual.response_template_retokenized, expected.response_template_retokenized);
  EXPECT_EQ(actual.row_lengths, expected.row_lengths);
  EXPECT_EQ(actual.first_dropped, expected.first_dropped);
}

inline void ExpectSame(const Dataset& actual, const Dataset& expected) {
  ExpectSameSet(actual.train, expected.train);
  ExpectSameSet(actual.eval, expected.eval);
  ExpectSameStats(actual.train_stats, expected.train_stats);
  ExpectSameStats(actual.eval_stats, expected.eval_stats);
  EXPECT_EQ(actual.warnings, expected.warnings);
  EXPECT_EQ(actual.formats, expected.formats);
}

// Loads with a cache in a folder of its own, which goes away with the test.
class TokenCacheTest : public testing::Test {
 protected:
  TokenCacheTest() { options_.max_length = 200; }

  // A load by a cache of its own, as a process has it.
  Dataset Load(const liger::v1::DatasetSpec& spec) {
    TokenCache cache(cache_options_, [this] { return inputs_; });
    LoadOptions options = options_;
    options.cache = &cache;
    Dataset dataset = LoadDataset(spec, options, *tokenizer_, &*chat_template_);
    notes_ = cache.notes();
    warnings_ = cache.warnings();
    return dataset;
  }
  Dataset LoadPlain(const liger::v1::DatasetSpec& spec) const {
    return LoadDataset(spec, options_, *tokenizer_, &*chat_template_);
  }
  // "hit" or "miss", of the one split that was asked for last.
  std::string Outcome() const {
    EXPECT_THAT(notes_, testing::SizeIs(1));
    return notes_.at(0).substr(std::string("data cache: ").size(), 4);
  }
  std::vector<std::filesystem::path> Files() const {
    std::vector<std::filesystem::path> files;
    if (!std::filesystem::exists(cache_options_.dir)) return files;
    for (const auto& entry : std::filesystem::directory_iterator(cache_options_.dir)) {
      files.push_back(entry.path());
    }
    return files;
  }
  static liger::v1::DatasetSpec SpecOf(const std::string& path) {
    liger::v1::DatasetSpec spec;
    spec.set_uri(path);
    return spec;
  }

  const TempFile folder_{"", "empty"};
  TokenCacheOptions cache_options_{.dir = std::filesystem::path(folder_.path()).parent_path() /
                                          "a" / "tokenized"};
  std::string inputs_ = "tokenizer and template";
  LoadOptions options_;
  std::vector<std::string> notes_, warnings_;
  static inline const std::string kData = SourceDir() + "/tests/data/";
  static inline const std::string kChat = SourceDir() + "/tests/golden/data/chat";
  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(kChat);
  const std::optional<ChatTemplate> chat_template_ = ChatTemplate::FromFolder(kChat);
};

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_DATA_TOKEN_CACHE_FIXTURE_H_
