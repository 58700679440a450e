#include "worker/trainer/data/dataset.h"

#include <filesystem>

#include "tests/unit/data/dataset_fixture.h"
#include "worker/trainer/data/parallel_rows.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetSpec;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Row 2's prompt alone fills 16 tokens.
constexpr char kLongPrompt[] = R"([
  {"prompt": "Hi", "completion": " Hello"},
  {"prompt": "a b c d e f g h i j k l m n o p q r s t u v w x y z", "completion": " Hello"},
  {"prompt": "Hi", "completion": " a b c d e f g h i j k l m n o p q r s t u v w x y z"}])";

TEST_F(DatasetTest, DropsAndCountsRowsThatAreAllPrompt) {
  LoadOptions options;
  options.max_length = 16;
  const Dataset dataset = Load(kLongPrompt, {}, options);
  EXPECT_EQ(dataset.train.num_rows(), 2);
  EXPECT_EQ(dataset.train_stats.rows, 3);
  EXPECT_EQ(dataset.train_stats.dropped_rows, 1);
  EXPECT_EQ(dataset.train_stats.truncated_rows, 1);
  EXPECT_THAT(dataset.train_stats.first_dropped, ElementsAre(2));
  ASSERT_THAT(dataset.warnings, SizeIs(2));
  EXPECT_THAT(dataset.warnings[1],
              HasSubstr("1 of 3 training rows is cut to training.max_length (16) at the end; the "
                        "longest row has 34 tokens"));
  EXPECT_THAT(dataset.warnings[0],
              HasSubstr("rows.json: 1 of 3 training rows was dropped (row 2): the prompt fills "
                        "training.max_length (16); raise training.max_length, or shorten or "
                        "remove these rows"));
  const Example& cut = dataset.train.sequences[1];
  EXPECT_EQ(cut.input_ids.size(), 16u);
  EXPECT_EQ(cut.labels.size(), 16u);
  int64_t tokens = 0;
  for (const Example& e : dataset.train.sequences) tokens += e.input_ids.size();
  EXPECT_EQ(dataset.train_stats.tokens, tokens);
}

TEST_F(DatasetTest, KeepEndCutsTheStart) {
  LoadOptions options;
  options.max_length = 3;
  options.keep_end = true;
  const Dataset dataset = Load(R"([
      {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, 8, 9]},
      {"input_ids": [5, 6], "labels": [-100, 6]}])",
                               {}, options);
  EXPECT_EQ(dataset.train_stats.truncated_rows, 1);
  EXPECT_THAT(dataset.train.sequences[0].input_ids, ElementsAre(7, 8, 9));
  // Nothing predicts the first token that is left.
  EXPECT_THAT(dataset.train.sequences[0].labels, ElementsAre(kIgnoredLabel, 8, 9));
  EXPECT_THAT(dataset.train.sequences[1].input_ids, ElementsAre(5, 6));
}

TEST_F(DatasetTest, StrictRefusesSuchARow) {
  DatasetSpec spec;
  spec.set_strict(true);
  LoadOptions options;
  options.max_length = 16;
  const auto failure = FailureOf([&] { Load(kLongPrompt, spec, options); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(failure.row(), 2);
  EXPECT_THAT(failure.message(),
              AllOf(HasSubstr("row 2 (line 3)"), HasSubstr("training.max_length (16)")));
}

TEST_F(DatasetTest, NothingLeftIsAnError) {
  LoadOptions options;
  options.max_length = 4;
  const auto failure = FailureOf([&] {
    Load(R"([{"prompt": "a b c d e f g", "completion": " h"},
             {"prompt": "g f e d c b a", "completion": " h"}])",
         {}, options);
  });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_THAT(failure.message(), testing::EndsWith("no rows are left of 2: the prompt fills "
                                                   "training.max_length (4)"));
}

TEST_F(DatasetTest, EachCauseOfDroppedRowsIsCounted) {
  LoadOptions options;
  options.method = liger::v1::JobSpec::kOrpo;
  options.max_length = 4;
  const Dataset dataset = Load(R"([
      {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]},
      {"prompt_ids": [1, 2], "chosen_ids": [3, 4, 5], "rejected_ids": []},
      {"prompt_ids": [1, 2, 3, 4], "chosen_ids": [3], "rejected_ids": [4]},
      {"prompt_ids": [1, 2], "chosen_ids": [], "rejected_ids": [4]}])",
                               {}, options);
  EXPECT_EQ(dataset.train_stats.dropped_cut, 1);
  EXPECT_THAT(dataset.warnings.at(0),
              HasSubstr("3 of 4 training rows were dropped (rows 2, 3, 4): the prompt fills "
                        "training.max_length (4) of 1, there is no answer of 2; raise"));
}

TEST_F(DatasetTest, ConversationsWithoutAnAssistantAreCounted) {
  EXPECT_EQ(Load(R"([{"messages": [{"role": "user", "content": "a"}]},
                     {"messages": [{"role": "user", "content": "a"},
                                   {"role": "assistant", "content": "b"}]}])",
                 {}, {})
                .train_stats.no_assistant,
            1);
}

// keep_end takes a row's prompt first.
TEST_F(DatasetTest, PromptsThatAreMostlyCutAreCounted) {
  LoadOptions options;
  options.max_length = 6;
  constexpr char kRows[] = R"([
      {"input_ids": [1, 2, 3, 4, 5, 6, 7], "labels": [-100, -100, -100, 4, 5, 6, 7]},
      {"input_ids": [1, 2, 3, 4, 5, 6, 7, 8], "labels": [-100, -100, -100, 4, 5, 6, 7, 8]},
      {"input_ids": [1, 2, 3, 4, 5, 6, 7, 8], "labels": [-100, -100, 3, 4, 5, 6, 7, 8]},
      {"input_ids": [1, 2, 3, 4, 5, 6, 7, 8, 9], "labels": [1, 2, 3, 4, 5, 6, 7, 8, 9]}])";
  EXPECT_EQ(Load(kRows, {}, options).train_stats.cut_prompts, 0) << "keep_start cuts no prompt";
  options.keep_end = true;
  const Dataset dataset = Load(kRows, {}, options);
  EXPECT_EQ(dataset.train_stats.truncated_rows, 4);
  EXPECT_EQ(dataset.train_stats.cut_prompts, 2);
  EXPECT_EQ(dataset.train_stats.lost_prompts, 1);
  EXPECT_THAT(
      dataset.warnings,
      ElementsAre(HasSubstr("4 of 4 training rows are cut to training.max_length (6) at "
                            "the start; the longest row has 9 tokens"),
                  HasSubstr("2 of 4 training rows keep less than half of the prompt (1 "
                            "of them none of it), which truncation_mode keep_end cuts first")));
  EXPECT_THAT(dataset.warnings.at(1),
              HasSubstr("or use keep_start, which cuts the answer instead"));
  options.max_length = 7;
  EXPECT_EQ(Load(kRows, {}, options).train_stats.cut_prompts, 0);
}

// Of several answers only the first that is left may have lost its prompt, the tokens between it
// and the one before; the row counts where that is most of what it trains on.
TEST_F(DatasetTest, EachAnswersOwnPromptCounts) {
  LoadOptions options;
  options.keep_end = true;
  constexpr char kRows[] = R"([
      {"input_ids": [1, 2, 3, 4, 5, 6, 7, 8, 9], "labels": [-100, -100, 3, 4, -100, -100, 7, 8, 9]},
      {"input_ids": [1, 2, 3, 4, 5, 6, 7, 8, 9], "labels": [-100, -100, 3, 4, 5, 6, -100, 8, 9]},
      {"input_ids": [1, 2, 3, 4, 5, 6, 7, 8, 9], "labels": [1, 2, -100, -100, -100, 6, 7, 8, 9]}])";
  const auto stats = [&](int64_t max_length) {
    options.max_length = max_length;
    return Load(kRows, {}, options).train_stats;
  };
  EXPECT_EQ(stats(7).cut_prompts, 1) << "row 2: three of five tokens without their prompt";
  EXPECT_EQ(stats(7).lost_prompts, 1);
  EXPECT_EQ(stats(5).cut_prompts, 1) << "row 3: one of three tokens of the prompt";
  EXPECT_EQ(stats(5).lost_prompts, 0);
  EXPECT_EQ(stats(4).cut_prompts, 1) << "row 3: none; row 1 half of the second prompt";
  EXPECT_EQ(stats(4).lost_prompts, 1);
}

TEST_F(DatasetTest, APromptFillsMaxLengthOnlyWhereAnAnswerFollows) {
  LoadOptions options;
  options.max_length = 4;
  constexpr char kRows[] = R"([
      {"prompt": "Hi", "completion": " Hello"},
      {"prompt": "a b c d e f g h i j k l m n o p q", "completion": ""},
      {"prompt": "a b c d e f g h i j k l m n o p q", "completion": " r"}])";
  const Dataset dataset = Load(kRows, {}, options);
  EXPECT_EQ(dataset.train_stats.dropped_rows, 2);
  EXPECT_EQ(dataset.train_stats.dropped_cut, 1);
  constexpr char kTokens[] = R"([
      {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]},
      {"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, -100, -100, -100]},
      {"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, -100, -100, 5]}])";
  EXPECT_EQ(Load(kTokens, {}, options).train_stats.dropped_cut, 1);
}

TEST_F(DatasetTest, AnEvaluationSplitThatDropsAllIsAWarning) {
  const TempFile eval(R"([{"prompt": "a b c d e f g h i j k l m n o p q", "completion": " r"},
                          {"prompt": "q p o n m l k j i h g f e d c b a", "completion": " r"}])",
                      "eval.json");
  LoadOptions options;
  options.max_length = 16;
  options.eval_files = {eval.path()};
  const Dataset dataset = Load(R"([{"prompt": "Hi", "completion": " Hello"}])", {}, options);
  EXPECT_EQ(dataset.train.num_rows(), 1);
  EXPECT_EQ(dataset.eval.num_rows(), 0);
  EXPECT_EQ(dataset.eval_stats.dropped_rows, 2);
  EXPECT_THAT(dataset.warnings,
              ElementsAre(HasSubstr("eval.json: 2 of 2 evaluation rows were dropped (rows 1, 2)"),
                          HasSubstr("no evaluation rows are left")));
}

TEST_F(DatasetTest, PairsAreDroppedWhereEitherAnswerIsGone) {
  LoadOptions options;
  options.method = liger::v1::JobSpec::kOrpo;
  options.max_length = 8;
  const Dataset dataset = Load(R"([
      {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]},
      {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": []},
      {"prompt_ids": [1, 2, 3, 4, 5, 6, 7, 8], "chosen_ids": [3], "rejected_ids": [4]}])",
                               {}, options);
  EXPECT_EQ(dataset.train.kind, RowKind::kPair);
  EXPECT_EQ(dataset.train.num_rows(), 1);
  EXPECT_THAT(dataset.train_stats.first_dropped, ElementsAre(2, 3));
}

TEST_F(DatasetTest, PairsWithEqualAnswersAreCountedAndKept) {
  LoadOptions options;
  options.method = liger::v1::JobSpec::kDpo;
  options.max_length = 4;
  const Dataset dataset = Load(R"([
      {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]},
      {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [3, 4]},
      {"prompt_ids": [1, 2], "chosen_ids": [3, 4, 5], "rejected_ids": [3, 4, 6]}])",
                               {}, options);
  EXPECT_EQ(dataset.train.num_rows(), 3);
  EXPECT_EQ(dataset.train_stats.equal_pairs, 2);
  EXPECT_THAT(dataset.warnings,
              ElementsAre(HasSubstr("1 of 3 training rows is cut to training.max_length (4)"),
                          HasSubstr("in 2 of 3 training rows chosen and rejected are the same")));
}

TEST_F(DatasetTest, TheFirstBrokenRowIsToldWhateverTheThreads) {
  std::string rows = Tokenised(400);
  std::string broken;
  int line = 0;
  for (const char c : rows) {
    broken += c;
    if (c == '\n' && ++line % 100 == 37) broken += "{\"input_ids\": [0, true]}\n";
  }
  for (const int threads : {1, 2, 7}) {
    LoadOptions options;
    options.num_threads = threads;
    EXPECT_EQ(FailureOf([&] { Load(broken, {}, options); }).row(), 38) << threads;
  }
}

TEST_F(DatasetTest, ThreadsDoNotChangeTheOrder) {
  for (const int threads : {1, 2, 7}) {
    LoadOptions options;
    options.num_threads = threads;
    const auto ids = SecondIds(Load(Tokenised(500), {}, options).train);
    ASSERT_EQ(ids.size(), 500u);
    EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  }
}

TEST_F(DatasetTest, ASeparateEvalFileIsRead) {
  const TempFile eval(Tokenised(9));
  LoadOptions options;
  options.eval_files = {eval.path()};
  DatasetSpec spec;
  spec.set_max_eval_samples(4);
  const Dataset dataset = Load(Tokenised(20), spec, options);
  EXPECT_EQ(dataset.train.num_rows(), 20);
  EXPECT_EQ(dataset.eval.num_rows(), 4);
}

TEST_F(DatasetTest, FileUrisAreUnderstood) {
  const TempFile file(Tokenised(3));
  DatasetSpec spec;
  spec.set_uri("file://" + file.path());
  EXPECT_EQ(LoadDataset(spec, {}, *tokenizer_, nullptr).train.num_rows(), 3);
}

TEST_F(DatasetTest, ConversationsNeedAChatTemplate) {
  const TempFile file(R"([{"messages": [{"role": "user", "content": "q"}]}])");
  DatasetSpec spec;
  spec.set_uri(file.path());
  const auto failure = FailureOf([&] { LoadDataset(spec, {}, *tokenizer_, nullptr); });
  EXPECT_EQ(failure.row(), 1);
  EXPECT_THAT(failure.message(), AllOf(HasSubstr("row 1 (line 1)"), HasSubstr("no chat template")));
}

TEST_F(DatasetTest, PromptsMustEndWhereAnAnswerCanFollow) {
  LoadOptions options;
  options.method = liger::v1::JobSpec::kOrpo;
  const auto failure = FailureOf([&] {
    Load(R"([{"prompt": [{"role": "system", "content": "s"}],
             "chosen": [{"role": "assistant", "content": "a"}],
             "rejected": [{"role": "assistant", "content": "b"}]}])",
         {}, options);
  });
  EXPECT_EQ(failure.row(), 1);
  EXPECT_THAT(failure.message(), HasSubstr("ends with a message of role system"));
}

// Where nothing says how a text ends.
TEST_F(DatasetTest, WarnsWhereNothingFollowsTheAnswers) {
  const TempFile tokenizer(
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})", "tokenizer.json");
  const TempFile rows(R"([{"messages": [{"role": "user", "content": "a"},
                                        {"role": "assistant", "content": "b"}]}])");
  const auto endless = Tokenizer::FromFolder(std::filesystem::path(tokenizer.path()).parent_path());
  const auto warnings = [&](const std::string& chat_template) {
    const auto chat = ChatTemplate::FromString(chat_template, "t.jinja", {});
    DatasetSpec spec;
    spec.set_uri(rows.path());
    return LoadDataset(spec, {}, *endless, &chat).warnings;
  };
  EXPECT_THAT(warnings("{% for m in messages %}{{ m.content }}\n{% endfor %}"),
              ElementsAre(HasSubstr("the tokenizer names no eos_token, and the chat template ends "
                                    "no turn")));
  EXPECT_THAT(warnings("{% for m in messages %}{{ m.content }}<end>\n{% endfor %}"), IsEmpty());
}

TEST(ForEachRow, ThrowsTheLowestRowsException) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    try {
      ForEachRow(1000, 8, [](int64_t i) {
        if (i >= 300 && i % 7 == 0) throw std::runtime_error(std::to_string(i));
      });
      FAIL();
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "301");
    }
  }
}

}  // namespace
}  // namespace liger::trainer
