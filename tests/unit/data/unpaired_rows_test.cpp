// Pairs as kto reads them: two labelled rows each. Their tokens against TRL's: trl_test.cpp.
#include "worker/trainer/data/unpaired_rows.h"

#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/batch.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

const std::string kGolden = SourceDir() + "/tests/golden/data/";
constexpr int32_t kNone = kIgnoredLabel;

class UnpairedRowsTest : public testing::Test {
 protected:
  Dataset Load(const std::string& content, const liger::v1::DatasetSpec& spec = {},
               LoadOptions options = {}) const {
    const TempFile file(content);
    options.method = liger::v1::JobSpec::kKto;
    options.train_files = {{file.path()}};
    return LoadDataset(spec, options, *tokenizer_, &*chat_template_);
  }

  // n pairs [0, i, i] and [0, i, i + 1], the prompt being [0, i].
  static std::string Tokens(int n) {
    std::string rows;
    for (int i = 0; i < n; ++i) {
      const nlohmann::json row = {
          {"prompt_ids", {0, i % 800}}, {"chosen_ids", {i % 800}}, {"rejected_ids", {i % 800 + 1}}};
      rows += row.dump() + "\n";
    }
    return rows;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(kGolden + "chat");
  const std::optional<ChatTemplate> chat_template_ = ChatTemplate::FromFolder(kGolden + "chat");
};

TEST_F(UnpairedRowsTest, EveryFormOfPairGivesAWantedAndAnUnwantedRow) {
  const std::string user = R"([{"role": "user", "content": "Hi"}])";
  const std::string good = R"([{"role": "assistant", "content": "yes"}])";
  const std::string bad = R"([{"role": "assistant", "content": "no"}])";
  const std::string joined =
      R"({"role": "user", "content": "Hi"}, {"role": "assistant", "content")";
  const std::vector<std::string> rows = {
      R"({"prompt": "Hi", "chosen": " yes", "rejected": " no"})",
      R"({"chosen": "Hi yes", "rejected": "Hi no"})",
      R"({"prompt": )" + user + R"(, "chosen": )" + good + R"(, "rejected": )" + bad + "}",
      R"({"chosen": [)" + joined + R"(: "yes"}], "rejected": [)" + joined + R"(: "no"}]})",
      // As UltraFeedback has it: the chosen conversation once more, and scores.
      R"({"prompt": "Hi", "messages": [)" + joined + R"(: "yes"}], "chosen": [)" + joined +
          R"(: "yes"}], "rejected": [)" + joined + R"(: "no"}], "score_chosen": 8.5})",
      R"({"conversations": [{"from": "human", "value": "Hi"}],
          "chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}})",
      R"({"instruction": "Hi", "input": "", "chosen": "yes", "rejected": "no"})",
      R"({"prompt": "Hi", "chosen": " yes", "rejected": " no", "label": "greeting"})"};
  for (const std::string& row : rows) {
    const Dataset dataset = Load("[" + row + "]");
    const ExampleSet& set = dataset.train;
    EXPECT_EQ(set.kind, RowKind::kLabelled);
    EXPECT_THAT(set.desirable, ElementsAre(1, 0)) << row;
    ASSERT_THAT(set.sequences, SizeIs(2)) << row;
    const auto text = [&](int s) { return tokenizer_->Decode(set.sequences[s].input_ids, true); };
    EXPECT_THAT(text(0), AllOf(HasSubstr("Hi"), HasSubstr("yes"), Not(HasSubstr("no")))) << row;
    EXPECT_THAT(text(1), AllOf(HasSubstr("Hi"), HasSubstr("no"), Not(HasSubstr("yes")))) << row;
    EXPECT_EQ(set.sequences[0].labels.front(), kNone);
    EXPECT_EQ(dataset.train_stats.rows, 2);
    EXPECT_EQ(dataset.train_stats.pairs, 1);
  }
}

// A row's own answer with a label is not taken for a pair, whatever else the file has.
TEST_F(UnpairedRowsTest, ALabelledAnswerComesBeforeAPair) {
  const std::string row = R"({"prompt": "Hi", "completion": " so", "chosen": " a", "rejected": " b",
    "label": )";
  const Dataset dataset = Load("[" + row + "true}, " + row + "false}]");
  EXPECT_THAT(dataset.train.desirable, ElementsAre(1, 0));
  EXPECT_EQ(dataset.train_stats.pairs, 0);
}

// All chosen answers of 1000 rows, then their rejected ones.
TEST_F(UnpairedRowsTest, TheOrderIsTrls) {
  std::ifstream golden(kGolden + "trl_kto.json");
  for (const auto& expected : nlohmann::json::parse(golden)["unpaired"]) {
    const int pairs = expected["pairs"];
    const ExampleSet set = Load(Tokens(pairs)).train;
    ASSERT_EQ(set.num_rows(), 2 * pairs);
    int64_t row = 0;
    for (const auto& run : expected["order"]) {
      const bool wanted = run[0];
      for (int pair = run[1]; pair < run[1].get<int>() + run[2].get<int>(); ++pair, ++row) {
        ASSERT_EQ(set.desirable[row] != 0, wanted) << row;
        ASSERT_THAT(std::vector<int32_t>(set.sequences[row].input_ids),
                    ElementsAre(0, pair % 800, pair % 800 + (wanted ? 0 : 1)));
      }
    }
  }
}

// Both answers of a pair are trained on, or both evaluated; max_samples counts pairs.
TEST_F(UnpairedRowsTest, PairsAreNotSplit) {
  liger::v1::DatasetSpec spec;
  spec.set_eval_fraction(0.25);
  spec.set_max_samples(40);
  const Dataset dataset = Load(Tokens(60), spec);
  EXPECT_EQ(dataset.train.num_rows(), 60);
  EXPECT_EQ(dataset.eval.num_rows(), 20);
  EXPECT_EQ(dataset.unread_rows, 0);
  for (const ExampleSet* set : {&dataset.train, &dataset.eval}) {
    std::map<int32_t, int> answers;
    for (const Example& sequence : set->sequences) ++answers[sequence.input_ids[1]];
    for (const auto& [prompt, count] : answers) EXPECT_EQ(count, 2) << prompt;
  }
}

TEST_F(UnpairedRowsTest, CountsWhatIsNotRead) {
  LoadOptions options;
  options.max_rows = 10;
  options.read_until = std::chrono::steady_clock::now();
  const Dataset dataset = Load(Tokens(1100), {}, options);
  EXPECT_EQ(dataset.train_stats.rows, 20);
  EXPECT_EQ(dataset.unread_rows, 1090);
}

// An answer is dropped by itself, as in TRL.
TEST_F(UnpairedRowsTest, DropsOneAnswerOrBoth) {
  LoadOptions options;
  options.max_length = 3;
  const Dataset dataset = Load(R"({"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": []}
{"prompt_ids": [1, 2, 3, 4], "chosen_ids": [5], "rejected_ids": [6]}
{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3, 4, 5]})",
                               {}, options);
  EXPECT_THAT(dataset.train.desirable, ElementsAre(1, 1, 0));
  EXPECT_EQ(dataset.train_stats.truncated_rows, 1);
  EXPECT_THAT(dataset.warnings,
              ElementsAre(HasSubstr("3 of 6 training rows were dropped (rows 2, 1): "),
                          HasSubstr("1 of 6 training rows is cut to training.max_length (3)")));
}

TEST_F(UnpairedRowsTest, EqualAnswersAreCountedByPairs) {
  const Dataset dataset = Load(R"({"prompt": "a", "chosen": " yes", "rejected": " yes"}
{"prompt": "b", "chosen": " yes", "rejected": " no"})");
  EXPECT_EQ(dataset.train_stats.equal_pairs, 1);
  EXPECT_THAT(dataset.warnings, ElementsAre(HasSubstr("in 1 of 2 training rows chosen and rejected "
                                                      "are the same tokens")));
}

TEST_F(UnpairedRowsTest, NamesTheRowOfAPair) {
  const auto failure = FailureOf([&] {
    Load(R"({"prompt": "a", "chosen": " yes", "rejected": " no"}
{"prompt": "b", "chosen": " yes"})");
  });
  EXPECT_EQ(failure.row(), 2);
  EXPECT_THAT(failure.message(), HasSubstr("rejected"));
  liger::v1::DatasetSpec strict;
  strict.set_strict(true);
  const auto dropped = FailureOf([&] {
    Load(R"({"prompt_ids": [1], "chosen_ids": [3], "rejected_ids": []})", strict);
  });
  EXPECT_EQ(dropped.row(), 1);
}

// Rows of one token of prompt each.
ExampleSet Labelled(const std::vector<int32_t>& prompts) {
  ExampleSet set;
  set.kind = RowKind::kLabelled;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto answer = static_cast<int32_t>(100 + i);
    set.sequences.push_back({{prompts[i], answer}, {kNone, answer}});
    set.desirable.push_back(i % 2 == 0);
  }
  return set;
}

std::vector<int64_t> Mismatched(const ExampleSet& set, std::vector<int64_t> rows) {
  return MismatchedRows(set, rows);
}

TEST(MismatchedRowsTest, IsTheRowBefore) {
  EXPECT_THAT(Mismatched(Labelled({1, 2, 3, 4}), {2, 0, 3}), ElementsAre(3, 2, 0));
}

TEST(MismatchedRowsTest, IsNoAnswerToTheSamePrompt) {
  // Two pairs behind each other: each answer is used once.
  EXPECT_THAT(Mismatched(Labelled({1, 1, 2, 2}), {0, 1, 2, 3}), ElementsAre(2, 3, 0, 1));
  // A row that a weighted mix took twice.
  EXPECT_THAT(Mismatched(Labelled({1, 2, 3}), {0, 0, 2, 1}), ElementsAre(2, 1, 0, 0));
}

TEST(MismatchedRowsTest, IsOfTheSetWhereTheBatchHasNoOther) {
  const ExampleSet set = Labelled({7, 1, 1, 2, 2});
  EXPECT_THAT(Mismatched(set, {1, 2}), ElementsAre(0, 0));
  EXPECT_THAT(Mismatched(set, {3, 4}), ElementsAre(2, 2));
  EXPECT_THAT(Mismatched(set, {4, 4}), ElementsAre(2, 2));
  EXPECT_THAT(Mismatched(set, {3, 4, 0}), ElementsAre(0, 2, 4));
  EXPECT_THAT(Mismatched(set, {2}), ElementsAre(0));
  EXPECT_THAT(Mismatched(set, {0}), ElementsAre(4));
}

TEST(MismatchedRowsTest, OfOnePromptIsTheRowBefore) {
  const ExampleSet set = Labelled({1, 1, 1});
  EXPECT_THAT(Mismatched(set, {0, 1, 2}), ElementsAre(2, 0, 1));
  EXPECT_THAT(Mismatched(set, {1}), ElementsAre(0));
  EXPECT_THAT(Mismatched(Labelled({1}), {0}), ElementsAre(0));
}

// keep_end takes more of one prompt off than of the other.
TEST(MismatchedRowsTest, KnowsPromptsWhoseStartWasCut) {
  ExampleSet set = Labelled({1, 2, 3});
  set.keep_end = true;
  set.sequences[1] = {{5, 1, 101}, {kNone, kNone, 101}};
  EXPECT_THAT(Mismatched(set, {0, 1, 2}), ElementsAre(2, 2, 1));
  EXPECT_THAT(Mismatched(set, {1, 0}), ElementsAre(2, 2));
}

}  // namespace
}  // namespace liger::trainer
