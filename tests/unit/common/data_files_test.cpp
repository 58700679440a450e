#include "common/data_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_replace.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

TEST(NamesDataFile, GoesByTheEnding) {
  for (const char* name : {"a.json", "a.jsonl.gz", "a.csv.zst", "a.parquet", "a.arrow"}) {
    EXPECT_TRUE(NamesDataFile(name)) << name;
  }
  for (const char* name : {"a", "a.gz", "a.txt", "a.parquet.gz", "json", "a.json.bak"}) {
    EXPECT_FALSE(NamesDataFile(name)) << name;
  }
}

TEST(PatternFolder, IsWhatHasNoWildcard) {
  EXPECT_EQ(PatternFolder("*.json"), ".");
  EXPECT_EQ(PatternFolder("/*.json"), "/");
  EXPECT_EQ(PatternFolder("a/b*/c.json"), "a");
  EXPECT_EQ(PatternFolder("/a/b/c[1].json"), "/a/b");
}

TEST(DataEnding, IsThatOfAPackedFileToo) {
  EXPECT_EQ(DataEnding("a.b/c.d.jsonl"), ".jsonl");
  EXPECT_EQ(DataEnding("a.b/c.jsonl.gz"), ".jsonl.gz");
  EXPECT_EQ(DataEnding("c.csv.zst"), ".csv.zst");
}

TEST(SplitOf, IsNamedAsDatasetsDoes) {
  EXPECT_EQ(SplitOf("test/Train_1.csv"), "train");
  EXPECT_EQ(SplitOf("a/dev.jsonl"), "validation");
  EXPECT_EQ(SplitOf("eval.jsonl"), "test");
  EXPECT_EQ(SplitOf("test_gen-00000-of-00001.parquet"), "test");
  EXPECT_EQ(SplitOf("no-robots-00000-of-00001-1f3a.parquet"), "no-robots");
  EXPECT_EQ(SplitOf("train/extra.jsonl"), "");
}

class MatchDataFilesTest : public testing::Test {
 protected:
  MatchDataFilesTest() {
    std::string pattern = (fs::temp_directory_path() / "liger-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    for (const char* name : {"b.json", "a[1].json", ".c.json", "d/e.json", "d/f/g.csv", "x.txt"}) {
      fs::create_directories((dir_ / name).parent_path());
      std::ofstream(dir_ / name) << "x";
    }
    fs::create_directory_symlink("..", dir_ / "d/up");
  }
  ~MatchDataFilesTest() override { fs::remove_all(dir_); }

  void Write(std::vector<std::string> names) const {
    for (const std::string& name : names) {
      fs::create_directories((dir_ / name).parent_path());
      std::ofstream(dir_ / name) << "x";
    }
  }

  // Why a folder's files cannot be trained or evaluated on, with "F" for its path.
  std::string Error(const std::string& folder, SplitUse use = SplitUse::kTraining) const {
    const auto status = MatchSplitFiles((dir_ / folder).string(), use).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return absl::StrReplaceAll(status.message(), {{(dir_ / folder).string(), "F"}});
  }

  // Names below the folder.
  std::vector<std::string> Below(std::vector<std::string> files) const {
    for (std::string& file : files) file = fs::path(file).lexically_relative(dir_).string();
    return files;
  }
  std::vector<std::string> Match(const std::string& path) const {
    return Below(MatchDataFiles((dir_ / path).string()).value_or(std::vector<std::string>()));
  }

  fs::path dir_;
};

TEST_F(MatchDataFilesTest, FilesFoldersAndPatterns) {
  EXPECT_THAT(Match("x.txt"), ElementsAre("x.txt"));
  EXPECT_THAT(Match(""), ElementsAre("a[1].json", "b.json"));
  EXPECT_THAT(Match("*.json"), ElementsAre("a[1].json", "b.json"));
  EXPECT_THAT(Match(".*.json"), ElementsAre(".c.json"));
  EXPECT_THAT(Match("*/*.json"), ElementsAre("d/e.json"));
  EXPECT_THAT(Match("**/*.?s*"), ElementsAre("a[1].json", "b.json", "d/e.json", "d/f/g.csv"));
  EXPECT_THAT(Match("**/**/g.csv"), ElementsAre("d/f/g.csv"));
  EXPECT_THAT(Match("a[1].json"), ElementsAre("a[1].json"));  // as it is, before as a pattern
}

TEST_F(MatchDataFilesTest, WhatSaveToDiskWritesBesideArrowFilesIsNoData) {
  const std::string rows = "s/data-00000-of-00001.arrow";
  for (const std::string name :
       {rows.c_str(), "s/dataset_info.json", "s/state.json", "s/cache-1f3a.arrow"}) {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name) << "x";
  }
  EXPECT_THAT(Match("s"), ElementsAre(rows));
  EXPECT_THAT(Match("s/*"), ElementsAre(rows));
  EXPECT_THAT(Match("s/state.json"), ElementsAre("s/state.json"));  // named
  EXPECT_THAT(MatchDataFiles((dir_ / "s/*.json").string()).status().message(),
              testing::HasSubstr("matches no file"));
  std::ofstream(dir_ / "d/state.json") << "x";
  EXPECT_THAT(Match("d"), ElementsAre("d/e.json", "d/state.json"));  // beside no .arrow file
  fs::create_directory(dir_ / "dict");
  std::ofstream(dir_ / "dict/dataset_dict.json") << "x";
  EXPECT_THAT(MatchDataFiles((dir_ / "dict").string()).status().message(),
              testing::HasSubstr("each split has a folder in it"));
  fs::create_directory(dir_ / "dict/train");
  std::ofstream(dir_ / "dict/train/data-00000-of-00001.arrow") << "x";
  EXPECT_THAT(Match("dict/**/*"), ElementsAre("dict/train/data-00000-of-00001.arrow"));
}

TEST_F(MatchDataFilesTest, AFoldersSplitsAreToldByTheNamesOfItsFiles) {
  const auto split = [this](std::vector<std::string> names, SplitUse use) {
    fs::remove_all(dir_ / "s");
    fs::create_directory(dir_ / "s");
    for (const std::string& name : names) std::ofstream(dir_ / "s" / name) << "x";
    SplitFiles files = *MatchSplitFiles((dir_ / "s").string(), use);
    EXPECT_EQ(files.files.size() + files.left_out.size(), names.size());
    for (std::string& file : files.files) file = fs::path(file).filename().string();
    return files.files;
  };
  const auto training = [&](std::vector<std::string> names) {
    return split(std::move(names), SplitUse::kTraining);
  };
  const std::string shard = "-00000-of-00001.parquet";
  EXPECT_THAT(training({"train" + shard, "test" + shard}), ElementsAre("train" + shard));
  EXPECT_THAT(training({"train" + shard, "random" + shard}), ElementsAre("train" + shard));
  for (const char* other : {"test.csv", "testing.csv", "eval.csv", "evaluation.csv", "dev.csv",
                            "validation.csv", "valid.csv", "val.csv", "my_test1.csv", "Test.csv"}) {
    EXPECT_THAT(training({"my_train_0.csv", "training.csv", other}),
                ElementsAre("my_train_0.csv", "training.csv"))
        << other;
    EXPECT_THAT(split({"train.csv", other}, SplitUse::kEvaluation), ElementsAre(other));
  }
  EXPECT_THAT(training({"rows.csv", "test.csv", "train.csv", "train.dev.csv"}),
              ElementsAre("train.csv", "train.dev.csv"));
  // Where the others are held out, what is named for no split is train's.
  EXPECT_THAT(training({"dev.csv", "math.csv", "test.csv"}), ElementsAre("math.csv"));
  EXPECT_THAT(split({"math.csv", "test.csv"}, SplitUse::kEvaluation), ElementsAre("test.csv"));
  // Of one split alone, or named for none.
  EXPECT_THAT(training({"test_a.csv", "test_b.csv"}), ElementsAre("test_a.csv", "test_b.csv"));
  EXPECT_THAT(training({"random" + shard, "rows.csv"}), ElementsAre("random" + shard, "rows.csv"));
  EXPECT_THAT(split({"a.csv", "b.csv"}, SplitUse::kEvaluation), ElementsAre("a.csv", "b.csv"));
  // What is named for no split is not train's beside it.
  EXPECT_THAT(training({"holdout.csv", "train.csv"}), ElementsAre("train.csv"));
  EXPECT_THAT(training({"latest.csv", "test.train.csv"}), ElementsAre("test.train.csv"));
  EXPECT_THAT(split({"holdout.csv", "train.csv"}, SplitUse::kEvaluation), ElementsAre("train.csv"));
  EXPECT_THAT(training({"train_math.csv", "train" + shard}),
              ElementsAre("train" + shard, "train_math.csv"));
  // A pattern is what it matches.
  split({"train.csv", "test.csv"}, SplitUse::kTraining);
  EXPECT_EQ(MatchSplitFiles((dir_ / "s/*.csv").string(), SplitUse::kTraining)->files.size(), 2u);
}

TEST_F(MatchDataFilesTest, SeveralSplitsAreRefused) {
  const std::string shard = "-00000-of-00001.parquet";
  Write({"ultra/train_gen" + shard, "ultra/train_sft" + shard, "ultra/test_gen" + shard,
         "ultra/test_sft" + shard});
  EXPECT_EQ(Error("ultra"),
            "the folder 'F' holds several splits to train on: train_gen (F/train_gen-*.parquet), "
            "train_sft (F/train_sft-*.parquet)");
  EXPECT_THAT(Match("ultra/train_sft-*.parquet"), ElementsAre("ultra/train_sft" + shard));
  // One's name begins as the other's.
  Write({"more/train" + shard, "more/train-more" + shard});
  EXPECT_THAT(Error("more"), testing::HasSubstr("train (F/train-[0-9]*.parquet), train-m"));
  EXPECT_THAT(Match("more/train-[0-9]*.parquet"), ElementsAre("more/train" + shard));
  // None of train.
  Write({"held/test.jsonl", "held/val.jsonl", "held/val2.jsonl"});
  EXPECT_EQ(Error("held"),
            "the folder 'F' holds several splits to train on: test (F/test.jsonl), validation "
            "(F/val.jsonl, F/val2.jsonl)");
  Write({"ab/a" + shard, "ab/b" + shard});
  EXPECT_THAT(Error("ab"), testing::HasSubstr("a (F/a-*.parquet), b (F/b-*.parquet)"));
  Write({"ab/test.jsonl", "ab/rows.jsonl"});
  EXPECT_THAT(Error("ab"), testing::HasSubstr("test (F/test.jsonl)"));
  // To evaluate on, too.
  EXPECT_EQ(Error("ultra", SplitUse::kEvaluation),
            "the folder 'F' holds several splits to evaluate on: test_gen (F/test_gen-*.parquet), "
            "test_sft (F/test_sft-*.parquet)");
  Write({"ultra/val.jsonl"});
  EXPECT_THAT(Error("ultra", SplitUse::kEvaluation), testing::EndsWith("validation (F/val.jsonl)"));
  Write({"vals/validation_a" + shard, "vals/validation_b" + shard, "vals/test" + shard});
  EXPECT_THAT(Error("vals", SplitUse::kEvaluation),
              testing::HasSubstr("test (F/test-*.parquet), validation_a (F/validation_a-*"));
}

TEST_F(MatchDataFilesTest, OfValidationAndTestTheFormerIsEvaluatedOn) {
  const std::string shard = "-00000-of-00001.parquet";
  const auto evaluation = [this](const std::string& folder) {
    const auto files = MatchSplitFiles((dir_ / folder).string(), SplitUse::kEvaluation);
    EXPECT_TRUE(files.ok()) << files.status();
    return files.ok() ? *files : SplitFiles();
  };
  Write({"s/train.jsonl", "s/test.jsonl", "s/val.jsonl", "s/val2.jsonl"});
  EXPECT_THAT(Below(evaluation("s").files), ElementsAre("s/val.jsonl", "s/val2.jsonl"));
  EXPECT_THAT(Below(evaluation("s").left_out), ElementsAre("s/test.jsonl", "s/train.jsonl"));
  Write({"hub/data/train" + shard, "hub/data/test" + shard, "hub/data/validation" + shard});
  EXPECT_THAT(Below(evaluation("hub").files), ElementsAre("hub/data/validation" + shard));
  Write({"held/test.jsonl", "held/dev.jsonl"});
  EXPECT_THAT(Below(evaluation("held").files), ElementsAre("held/dev.jsonl"));
  EXPECT_THAT(Below(evaluation("held").left_out), ElementsAre("held/test.jsonl"));
  // Others are to train on.
  Write({"imdb/train" + shard, "imdb/test" + shard, "imdb/unsupervised" + shard});
  EXPECT_THAT(Below(evaluation("imdb").files), ElementsAre("imdb/test" + shard));
  Write({"named/train" + shard, "named/quiz" + shard});
  EXPECT_THAT(Below(evaluation("named").files), ElementsAre("named/quiz" + shard));
}

TEST_F(MatchDataFilesTest, TrainAloneIsEvaluatedOnUnlessItIsTrainedOn) {
  const std::string shard = "-00000-of-00001.parquet", folder = (dir_ / "s").string();
  Write({"s/train" + shard, "s/train_more.csv", "s/rows.csv", "other/train.csv"});
  const auto evaluation = [&](const std::string& trained) {
    return MatchSplitFiles(folder, SplitUse::kEvaluation, {(dir_ / trained).string()});
  };
  const auto files = evaluation("other/train.csv");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(Below(files->files), ElementsAre("s/train" + shard, "s/train_more.csv"));
  EXPECT_THAT(Below(files->left_out), ElementsAre("s/rows.csv"));
  fs::create_symlink(dir_ / "s/train_more.csv", dir_ / "link.csv");
  for (const char* trained : {"s/train_more.csv", "link.csv"}) {
    EXPECT_EQ(
        absl::StrReplaceAll(evaluation(trained).status().message(), {{folder, "F"}}),
        "the folder 'F' holds no split to evaluate on, but train (F/train-*.parquet, "
        "F/train_more.csv), which the job trains on; what it holds beside that is of no split by "
        "its name: F/rows.csv");
  }
  EXPECT_TRUE(evaluation("s/rows.csv").ok());
  // What has no split's name is no better.
  Write({"plain/a.csv", "plain/b.csv"});
  const std::string plain = (dir_ / "plain").string();
  EXPECT_TRUE(MatchSplitFiles(plain, SplitUse::kEvaluation, {(dir_ / "s/rows.csv").string()}).ok());
  const auto same = MatchSplitFiles(plain, SplitUse::kEvaluation, {plain + "/b.csv"}).status();
  EXPECT_EQ(same.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(absl::StrReplaceAll(same.message(), {{plain, "F"}}),
            "the folder 'F' holds no split to evaluate on, but F/a.csv, F/b.csv, which the job "
            "trains on");
}

TEST_F(MatchDataFilesTest, OneSplitInTwoFormatsIsRefused) {
  Write({"s/train.jsonl", "s/train.parquet", "s/test.jsonl"});
  EXPECT_EQ(Error("s"),
            "the folder 'F' holds the same rows, by their files' names, in several formats: "
            "F/train.jsonl, "
            "F/train.parquet (all of them: F/train.*)");
  EXPECT_TRUE(MatchSplitFiles((dir_ / "s").string(), SplitUse::kEvaluation).ok());
  fs::rename(dir_ / "s/train.parquet", dir_ / "s/train2.parquet");
  EXPECT_EQ(MatchSplitFiles((dir_ / "s").string(), SplitUse::kTraining)->files.size(), 2u);
  // In shards.
  Write({"s/train-00000-of-00002.parquet", "s/train-00001-of-00002.parquet"});
  EXPECT_EQ(Error("s"),
            "the folder 'F' holds the same rows, by their files' names, in several formats: "
            "F/train.jsonl, "
            "F/train-*.parquet (all of them: F/train[-.]*)");
  Write({"named/rows.jsonl", "named/rows.jsonl.gz", "named/test.jsonl"});
  EXPECT_THAT(Error("named"),
              testing::HasSubstr("F/rows.jsonl, F/rows.jsonl.gz (all of them: F/r"));
  Write({"s/train-more.csv"});
  EXPECT_THAT(Error("s"), testing::EndsWith("F/train.jsonl, F/train-*.parquet"));
}

TEST_F(MatchDataFilesTest, OneSplitInAFileAndInShardsIsRefused) {
  Write({"s/train.jsonl", "s/train-00000-of-00002.jsonl", "s/train-00001-of-00002.jsonl"});
  EXPECT_EQ(Error("s"),
            "the folder 'F' holds the same rows, by their files' names, twice: F/train.jsonl, "
            "F/train-*.jsonl (all of "
            "them: F/train[-.]*)");
  fs::rename(dir_ / "s/train.jsonl", dir_ / "s/train_more.jsonl");
  EXPECT_EQ(MatchSplitFiles((dir_ / "s").string(), SplitUse::kTraining)->files.size(), 3u);
}

TEST_F(MatchDataFilesTest, ShardsOfTwoTotalsAreRefused) {
  Write({"s/train-00000-of-00001-1f3a.parquet", "s/train-00000-of-00002.parquet",
         "s/train-00001-of-00002.parquet"});
  EXPECT_EQ(Error("s"),
            "the folder 'F' holds the same rows, by their files' names, twice: "
            "F/train-[0-9]*-of-00001*.parquet, F/train-[0-9]*-of-00002*.parquet (all of them: "
            "F/train[-.]*)");
  EXPECT_THAT(Match("s/train-[0-9]*-of-00001*.parquet"),
              ElementsAre("s/train-00000-of-00001-1f3a.parquet"));
  // Whether there are all of one total is not asked, as by load_dataset.
  fs::remove(dir_ / "s/train-00000-of-00001-1f3a.parquet");
  fs::remove(dir_ / "s/train-00000-of-00002.parquet");
  EXPECT_TRUE(MatchSplitFiles((dir_ / "s").string(), SplitUse::kTraining).ok());
}

TEST_F(MatchDataFilesTest, AFolderOfTheHubIsWhatItsDataFolderHolds) {
  Write({"hub/README.md", "hub/dataset_infos.json", "hub/data/train.jsonl", "hub/data/test.jsonl"});
  EXPECT_THAT(Match("hub"), ElementsAre("hub/data/test.jsonl", "hub/data/train.jsonl"));
  const auto split = MatchSplitFiles((dir_ / "hub").string(), SplitUse::kTraining);
  EXPECT_THAT(split->files, ElementsAre((dir_ / "hub/data/train.jsonl").string()));
  EXPECT_THAT(Match("hub/*.json"), ElementsAre());
  EXPECT_THAT(Match("hub/dataset_infos.json"), ElementsAre("hub/dataset_infos.json"));  // named
}

TEST_F(MatchDataFilesTest, OfAFolderAndItsFolderDataThatWithSplitsIsMeant) {
  const auto training = [this](const std::string& folder) {
    const auto files = MatchSplitFiles((dir_ / folder).string(), SplitUse::kTraining);
    EXPECT_TRUE(files.ok()) << files.status();
    return files.ok() ? *files : SplitFiles();
  };
  Write({"s/sample.jsonl", "s/data/train.csv", "s/data/test.csv"});
  EXPECT_THAT(Match("s"), ElementsAre("s/data/test.csv", "s/data/train.csv"));
  EXPECT_THAT(Below(training("s").files), ElementsAre("s/data/train.csv"));
  EXPECT_THAT(Below(training("s").left_out), ElementsAre("s/sample.jsonl", "s/data/test.csv"));
  Write({"own/train.jsonl", "own/test.jsonl", "own/data/other.csv"});
  EXPECT_THAT(Below(training("own").files), ElementsAre("own/train.jsonl"));
  EXPECT_THAT(Below(training("own").left_out), ElementsAre("own/test.jsonl"));
}

TEST_F(MatchDataFilesTest, AFolderAndItsFolderDataAreRefusedWhereEitherMayBeMeant) {
  const std::string end =
      "), and so does its folder data (F/data): only one of the two can be meant";
  Write({"s/train.jsonl", "s/test.jsonl", "s/data/train-00000-of-00001.parquet"});
  EXPECT_EQ(Error("s"),
            "the folder 'F' holds data files (test (F/test.jsonl), train "
            "(F/train.jsonl)" +
                end);
  Write({"none/a.jsonl", "none/b.jsonl", "none/data/c.csv"});
  EXPECT_EQ(Error("none"), "the folder 'F' holds data files (F/*.jsonl" + end);
  EXPECT_THAT(Match("none"), ElementsAre("none/a.jsonl", "none/b.jsonl"));  // there are some
  // Whose rows are trained on beside these?
  Write({"held/rows.jsonl", "held/more.csv", "held/data/test.csv"});
  EXPECT_EQ(Error("held"), "the folder 'F' holds data files (F/more.csv, F/rows.jsonl" + end);
}

TEST_F(MatchDataFilesTest, ListsOfSetsAreNoRows) {
  Write({"s/dataset_info.json", "s/rows.json"});  // as in LLaMA-Factory's folder data
  EXPECT_THAT(Match("s"), ElementsAre("s/rows.json"));
  EXPECT_THAT(Match("s/*"), ElementsAre("s/rows.json"));
  EXPECT_THAT(Match("s/dataset_info.json"), ElementsAre("s/dataset_info.json"));  // named
  fs::remove(dir_ / "s/rows.json");
  const std::string error(MatchDataFiles((dir_ / "s").string()).status().message());
  EXPECT_THAT(error, testing::EndsWith("; dataset_info.json is by its name a list of sets: where "
                                       "it holds rows, name " +
                                       (dir_ / "s/dataset_info.json").string()));
}

TEST_F(MatchDataFilesTest, TheFoldersThatHoldTheDataInsteadAreNamed) {
  const auto error = [&] {
    return std::string(MatchDataFiles((dir_ / "sub").string()).status().message());
  };
  Write({"sub/README.md", "sub/.cache/x.json", "sub/notes/a.txt", "sub/train/a.jsonl"});
  EXPECT_THAT(error(), testing::EndsWith("; its data files are in train/"));
  Write({"sub/test/a.jsonl"});
  EXPECT_THAT(error(), testing::EndsWith("; its data files are in test/, train/: name one of these "
                                         "folders"));
  Write({"sub/data/all/a.jsonl", "sub/data/en/x/a.jsonl", "sub/test/more/a.jsonl"});
  EXPECT_THAT(error(), testing::HasSubstr(" are in data/all/, test/, train/: name"));
}

TEST_F(MatchDataFilesTest, OfTheHubsCacheTheRevisionOfMainIsNamed) {
  const auto error = [&] {
    return std::string(MatchDataFiles((dir_ / "c").string()).status().message());
  };
  Write({"c/blobs/aaa", "c/snapshots/2b/data/a.parquet", "c/snapshots/1a/en/a.parquet"});
  EXPECT_THAT(error(), testing::EndsWith("; its data files are in snapshots/1a/en/, snapshots/2b/: "
                                         "name one of these folders"));
  EXPECT_THAT(Match("c/snapshots/2b"), ElementsAre("c/snapshots/2b/data/a.parquet"));
  fs::create_directory(dir_ / "c/refs");
  std::ofstream(dir_ / "c/refs/main") << "2b";
  EXPECT_THAT(error(), testing::EndsWith("; its data files are in snapshots/2b/"));
  std::ofstream(dir_ / "c/refs/main") << "1a\n";
  EXPECT_THAT(error(), testing::EndsWith("; its data files are in snapshots/1a/en/"));
}

TEST_F(MatchDataFilesTest, NothingIsNotFound) {
  for (const char* path : {"none.json", "*.csv", "d/f/none"}) {
    EXPECT_EQ(MatchDataFiles((dir_ / path).string()).status().code(), absl::StatusCode::kNotFound);
  }
  fs::create_directory(dir_ / "empty");
  EXPECT_EQ(MatchDataFiles((dir_ / "empty").string()).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace liger
