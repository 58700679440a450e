// Folders, patterns, several sources, and packing, as LoadDataset has them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/epoch_order.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

const std::string kGolden = SourceDir() + "/tests/golden/data/";

class SourcesTest : public testing::Test {
 protected:
  SourcesTest()
      : anchor_("", "anchor"), dir_(anchor_.path().substr(0, anchor_.path().size() - 6)) {}

  // A file of tokenised rows [0, id].
  std::string Write(const std::string& name, std::vector<int> ids) {
    const std::string path = dir_ + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream file(path);
    for (const int id : ids) file << "{\"input_ids\": [0, " << id << "]}\n";
    return path;
  }

  Dataset Load(const liger::v1::DatasetSpec& spec, const LoadOptions& options = {}) {
    return LoadDataset(spec, options, *tokenizer_, &*chat_template_);
  }

  static std::vector<int32_t> Ids(const ExampleSet& set) {
    std::vector<int32_t> ids;
    for (const Example& example : set.sequences) ids.push_back(example.input_ids.at(1));
    return ids;
  }

  const TempFile anchor_;
  const std::string dir_;
  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(kGolden + "chat");
  const std::optional<ChatTemplate> chat_template_ = ChatTemplate::FromFolder(kGolden + "chat");
};

TEST_F(SourcesTest, AFolderIsItsDataFilesByName) {
  Write("data/b.jsonl", {3, 4});
  Write("data/a.jsonl", {1, 2});
  Write("data/readme.md", {9});
  Write("data/.hidden.jsonl", {9});
  Write("data/inner/c.jsonl", {9});
  liger::v1::DatasetSpec spec;
  spec.set_uri("file://" + dir_ + "data");
  EXPECT_THAT(Ids(Load(spec).train), ElementsAre(1, 2, 3, 4));
  spec.set_max_samples(3);
  EXPECT_THAT(Ids(Load(spec).train), ElementsAre(1, 2, 3));
}

TEST_F(SourcesTest, OfAFolderOfSplitsTrainIsTrainedOn) {
  Write("data/train-00000-of-00001.jsonl", {1, 2});
  Write("data/test-00000-of-00001.jsonl", {3});
  liger::v1::DatasetSpec spec;
  spec.set_uri(dir_ + "data");
  EXPECT_THAT(Ids(Load(spec).train), ElementsAre(1, 2));
  spec.set_eval_uri(dir_ + "data");
  EXPECT_THAT(Ids(Load(spec).eval), ElementsAre(3));
  spec.set_uri(dir_ + "data/*.jsonl");
  EXPECT_THAT(Ids(Load(spec).train), ElementsAre(3, 1, 2));
}

TEST_F(SourcesTest, APatternIsTheFilesThatItMatches) {
  Write("data/part-2.jsonl", {2});
  Write("data/part-10.jsonl", {1});
  Write("data/other.jsonl", {9});
  Write("data/deep/er/part-3.jsonl", {3});
  liger::v1::DatasetSpec spec;
  spec.set_name(dir_ + "data/part-*.jsonl");
  EXPECT_THAT(Ids(Load(spec).train), ElementsAre(1, 2));
  spec.set_name(dir_ + "data/part-[0-4].jsonl");
  EXPECT_THAT(Ids(Load(spec).train), ElementsAre(2));
  spec.set_name(dir_ + "d?ta/**/part-*.jsonl");
  EXPECT_THAT(Ids(Load(spec).train), ElementsAre(3, 1, 2));
  spec.set_eval_uri(dir_ + "data/oth*");
  EXPECT_THAT(Ids(Load(spec).eval), ElementsAre(9));
}

TEST_F(SourcesTest, EvaluationRowsOfAnotherFormatAreWarnedOf) {
  std::ofstream(dir_ + "train.jsonl") << R"({"prompt": "a", "completion": "b"})"
                                      << "\n";
  std::ofstream(dir_ + "eval.jsonl") << R"({"text": "ab"})"
                                     << "\n";
  liger::v1::DatasetSpec spec;
  spec.set_uri(dir_ + "train.jsonl");
  spec.set_eval_uri(dir_ + "eval.jsonl");
  const auto told = testing::Contains(
      HasSubstr("dataset.eval_uri: rows are read as TEXT, so eval_loss is of all tokens, and "
                "training rows as PROMPT_COMPLETION, of which the answers alone"));
  EXPECT_THAT(Load(spec).warnings, told);
  spec.set_eval_uri(dir_ + "train.jsonl");
  EXPECT_THAT(Load(spec).warnings, testing::Not(told));
}

TEST_F(SourcesTest, EvaluationRowsMayHaveTheFormatsOwnNames) {
  const auto write = [this](const std::string& name, const std::string& row) {
    std::ofstream(dir_ + name) << row << "\n";
  };
  write("train.jsonl", R"({"question": "a", "answer": "b"})");
  write("eval.jsonl", R"({"prompt": "a", "answer": "b"})");
  liger::v1::DatasetSpec spec;
  spec.mutable_columns()->insert({{"prompt", "question"}, {"completion", "answer"}});
  spec.set_uri(dir_ + "train.jsonl");
  spec.set_eval_uri(dir_ + "eval.jsonl");
  const auto told = testing::Contains(
      HasSubstr("eval.jsonl: lacks what dataset.columns names, so the format's own names are read: "
                "prompt (not question)"));
  const Dataset dataset = Load(spec);
  EXPECT_THAT(dataset.warnings, told);
  EXPECT_EQ(dataset.eval.num_rows(), 1);
  spec.set_eval_uri(dir_ + "train.jsonl");
  EXPECT_THAT(Load(spec).warnings, testing::Not(told));
  // Both names are what to look for.
  write("eval.jsonl", R"({"query": "a", "answer": "b"})");
  spec.set_eval_uri(dir_ + "eval.jsonl");
  const auto failure = FailureOf([&] { Load(spec); });
  EXPECT_THAT(failure.message(), HasSubstr("eval.jsonl: row 1 (line 1): column question: the "
                                           "column is missing, and so is prompt; the row has: "
                                           "query, answer"));
  EXPECT_THAT(failure.action(), HasSubstr("Evaluation rows need one of the two: correct "
                                          "dataset.columns.prompt"));
  // Training rows need what the job names.
  write("train.jsonl", R"({"prompt": "a", "answer": "b"})");
  EXPECT_THAT(FailureOf([&] { Load(spec); }).action(),
              testing::StartsWith("Correct dataset.columns.prompt"));
}

TEST_F(SourcesTest, EvaluationRowsOfBothNamesAreAnError) {
  const auto write = [this](const std::string& name, const std::string& rows) {
    std::ofstream(dir_ + name) << rows << "\n";
  };
  const std::string mapped = R"({"question": "a", "answer": "b"})";
  const std::string standard = R"({"prompt": "a", "answer": "b"})";
  write("train.jsonl", mapped);
  liger::v1::DatasetSpec spec;
  spec.mutable_columns()->insert({{"prompt", "question"}, {"completion", "answer"}});
  spec.set_uri(dir_ + "train.jsonl");
  spec.set_eval_uri(dir_ + "eval.jsonl");
  write("eval.jsonl", standard + "\n" + mapped);
  auto failure = FailureOf([&] { Load(spec); });
  EXPECT_THAT(failure.message(), HasSubstr("eval.jsonl: row 2 (line 2): column question: the "
                                           "file's first row has prompt instead"));
  EXPECT_THAT(failure.action(), HasSubstr("rename question to prompt (dataset.columns.prompt is "
                                          "question)"));
  write("eval.jsonl", mapped + "\n" + standard);
  failure = FailureOf([&] { Load(spec); });
  EXPECT_THAT(failure.message(), HasSubstr("eval.jsonl: row 2 (line 2): column prompt: the file's "
                                           "first row has question instead"));
  EXPECT_THAT(failure.action(), HasSubstr("rename prompt to question"));
  write("eval.jsonl", mapped);
  write("train.jsonl", mapped + "\n" + standard);
  failure = FailureOf([&] { Load(spec); });
  EXPECT_THAT(failure.message(), HasSubstr("column question (read as prompt): the column is "
                                           "missing; the row has: prompt, answer"));
  EXPECT_THAT(failure.action(), HasSubstr("which dataset.columns.prompt names"));
}

// A row without it may simply have none.
TEST_F(SourcesTest, OptionalColumnsOfEvaluationRowsKeepTheJobsNames) {
  const std::string row = R"({"instruction": "a", "output": "b", )";
  std::ofstream(dir_ + "train.jsonl") << row << R"("ctx": "a"})"
                                      << "\n";
  std::ofstream(dir_ + "eval.jsonl") << row << R"("input": "b"})"
                                     << "\n"
                                     << row << R"("ctx": "a"})"
                                     << "\n";
  liger::v1::DatasetSpec spec;
  spec.mutable_columns()->insert({"input", "ctx"});
  spec.set_uri(dir_ + "train.jsonl");
  spec.set_eval_uri(dir_ + "eval.jsonl");
  const auto failure = FailureOf([&] { Load(spec); });
  EXPECT_THAT(failure.message(), HasSubstr("eval.jsonl: row 1 (line 1): column ctx: the column is "
                                           "missing; the row has: instruction, output, input"));
  EXPECT_THAT(failure.action(), HasSubstr("Evaluation rows need it, too: correct "
                                          "dataset.columns.input, which names it, or rename"));
}

TEST_F(SourcesTest, NothingThereIsAnError) {
  Write("data/readme.md", {9});
  liger::v1::DatasetSpec spec;
  const auto message = [&](const std::string& uri) {
    spec.set_uri(uri);
    return FailureOf([&] { Load(spec); }).message();
  };
  EXPECT_THAT(message(dir_ + "data/*.jsonl"), HasSubstr("data/*.jsonl' matches no file"));
  EXPECT_THAT(message(dir_ + "data"), HasSubstr("holds no data file (.json, .jsonl, .csv"));
  EXPECT_THAT(message(dir_ + "none.jsonl"), HasSubstr("none.jsonl' does not exist"));
}

TEST_F(SourcesTest, DroppedRowsAreNamedByFile) {
  Write("data/a.jsonl", {1, 2});
  std::ofstream(dir_ + "data/b.jsonl") << "{\"input_ids\": [0, 7]}\n{\"input_ids\": [5]}\n";
  liger::v1::DatasetSpec spec;
  spec.set_uri(dir_ + "data");
  const Dataset dataset = Load(spec);
  EXPECT_EQ(dataset.train_stats.dropped_rows, 1);
  ASSERT_THAT(dataset.warnings, SizeIs(1));
  EXPECT_THAT(dataset.warnings[0], HasSubstr("1 of 4 training rows was dropped (row b.jsonl:2)"));
}

class MixTest : public SourcesTest {
 protected:
  MixTest() {
    std::ofstream(dir_ + "named.jsonl") << "{\"ids\": [0, 4]}\n{\"ids\": [0, 5]}\n";
    spec_.add_sources()->set_uri(Write("a.jsonl", {1, 2, 3}));
    spec_.add_sources()->set_uri(dir_ + "named.jsonl");
    (*spec_.mutable_sources(1)->mutable_columns())["input_ids"] = "ids";
  }
  liger::v1::DatasetSpec spec_;
};

TEST_F(MixTest, SourcesFollowEachOther) {
  const Dataset dataset = Load(spec_);
  EXPECT_THAT(Ids(dataset.train), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(dataset.train_stats.rows, 5);
  EXPECT_THAT(dataset.train.mix, SizeIs(0));
  spec_.mutable_sources(0)->set_max_samples(1);
  EXPECT_THAT(Ids(Load(spec_).train), ElementsAre(1, 4, 5));
}

TEST_F(MixTest, WeightsMakeShares) {
  spec_.mutable_sources(0)->set_weight(1);
  spec_.mutable_sources(1)->set_weight(4);
  const ExampleSet set = Load(spec_).train;
  ASSERT_THAT(set.mix, SizeIs(2));
  EXPECT_EQ(set.mix[0].take, 1);
  EXPECT_EQ(set.mix[1].begin, 3);
  EXPECT_EQ(set.mix[1].end, 5);
  EXPECT_EQ(set.mix[1].take, 4);
  // In the files' order: a row of the first source amid those of the second, another each epoch.
  const auto rows = [&](int64_t epoch) { return EpochRows(set, /*shuffle=*/false, 0, epoch); };
  EXPECT_THAT(rows(0), ElementsAre(3, 4, 0, 3, 4));
  EXPECT_THAT(rows(1), ElementsAre(3, 4, 1, 3, 4));
}

TEST_F(MixTest, TheEvaluationShareIsDrawnFromAllSources) {
  spec_.set_eval_fraction(0.4);
  const Dataset dataset = Load(spec_);
  std::vector<int32_t> all = Ids(dataset.train);
  const std::vector<int32_t> eval = Ids(dataset.eval);
  EXPECT_THAT(eval, SizeIs(2));
  all.insert(all.end(), eval.begin(), eval.end());
  EXPECT_THAT(all, testing::UnorderedElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(Ids(Load(spec_).eval), eval);
}

TEST_F(MixTest, ErrorsNameTheFieldsOfTheSource) {
  const auto failure = [&] { return FailureOf([&] { Load(spec_); }); };
  spec_.mutable_sources(1)->set_format(liger::v1::DATASET_FORMAT_TEXT);
  EXPECT_EQ(failure().field(), "dataset.sources[1].format");
  EXPECT_THAT(failure().message(), HasSubstr("the job's dataset.sources[1].format is TEXT"));
  EXPECT_THAT(failure().action(), HasSubstr("Leave dataset.sources[1].format out"));
  spec_.mutable_sources(1)->clear_format();
  spec_.set_format(liger::v1::DATASET_FORMAT_TEXT);
  EXPECT_EQ(failure().field(), "dataset.format");  // which the sources take
  spec_.clear_format();
  auto& columns = *spec_.mutable_sources(1)->mutable_columns();
  columns["input_ids"] = "none";
  EXPECT_EQ(failure().field(), "dataset.sources[1].columns.input_ids");
  columns.clear();
  std::ofstream(dir_ + "named.jsonl") << "{\"ids\": [0, 4], \"id\": 1}\n";
  EXPECT_THAT(failure().action(), HasSubstr("told in dataset.sources[1].columns, such as"));
  (*spec_.mutable_columns())["input_ids"] = "none";
  EXPECT_EQ(failure().field(), "dataset.columns.input_ids");
}

TEST_F(MixTest, PacksAreOfOneSource) {
  spec_.mutable_sources(0)->set_weight(1);
  spec_.mutable_sources(1)->set_weight(1);
  LoadOptions options;
  options.packing = PackingStrategy::kBfd;
  options.max_length = 4;
  const Dataset dataset = Load(spec_, options);
  EXPECT_THAT(dataset.train.pack_begins, ElementsAre(0, 2, 3, 5));
  EXPECT_EQ(dataset.train_stats.packs, 3);
  EXPECT_EQ(dataset.train_stats.rows, 5);
  EXPECT_EQ(dataset.train.mix[1].begin, 2);  // in packs
  EXPECT_EQ(dataset.train.mix[1].end, 3);
}

TEST_F(SourcesTest, WrappedTakesRowsWhole) {
  std::ofstream(dir_ + "long.jsonl") << R"({"input_ids": [1, 2, 3, 4, 5, 6, 7]})" << "\n";
  liger::v1::DatasetSpec spec;
  spec.set_uri(dir_ + "long.jsonl");
  LoadOptions options;
  options.max_length = 4;
  options.packing = PackingStrategy::kWrapped;
  const Dataset wrapped = Load(spec, options);
  ASSERT_THAT(wrapped.train.sequences, SizeIs(2));
  EXPECT_THAT(wrapped.train.sequences[1].input_ids, ElementsAre(5, 6, 7));
  EXPECT_EQ(wrapped.train_stats.truncated_rows, 0);
  EXPECT_EQ(wrapped.train_stats.target_tokens, 5);
  EXPECT_THAT(wrapped.train_stats.row_lengths, ElementsAre(7));
  options.packing = PackingStrategy::kBfd;
  const Dataset bfd = Load(spec, options);
  EXPECT_THAT(bfd.train.sequences, SizeIs(1));
  EXPECT_EQ(bfd.train_stats.truncated_rows, 1);
}

}  // namespace
}  // namespace liger::trainer
