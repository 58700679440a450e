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

  // Why a folder's files cannot be trained on, with "F" for its path.
  std::string TrainingError(const std::string& folder) const {
    const auto status = MatchSplitFiles((dir_ / folder).string(), SplitUse::kTraining).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return absl::StrReplaceAll(status.message(), {{(dir_ / folder).string(), "F"}});
  }

  // Names below the folder.
  std::vector<std::string> Match(const std::string& path) const {
    std::vector<std::string> names;
    const auto files = MatchDataFiles((dir_ / path).string());
    for (const std::string& file : files.value_or(std::vector<std::string>())) {
      names.push_back(fs::path(file).lexically_relative(dir_).string());
    }
    return names;
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
  // Of one split alone, or named for none.
  EXPECT_THAT(training({"dev.csv", "rows.csv"}), ElementsAre("dev.csv", "rows.csv"));
  EXPECT_THAT(training({"latest.csv", "train.csv"}), ElementsAre("latest.csv", "train.csv"));
  EXPECT_THAT(split({"a" + shard, "b" + shard}, SplitUse::kEvaluation),
              ElementsAre("a" + shard, "b" + shard));
  EXPECT_THAT(training({"train_math.csv", "train" + shard}),
              ElementsAre("train" + shard, "train_math.csv"));
  // A pattern is what it matches.
  split({"train.csv", "test.csv"}, SplitUse::kTraining);
  EXPECT_EQ(MatchSplitFiles((dir_ / "s/*.csv").string(), SplitUse::kTraining)->files.size(), 2u);
}

TEST_F(MatchDataFilesTest, SeveralSplitsToTrainOnAreRefused) {
  const std::string shard = "-00000-of-00001.parquet";
  Write({"ultra/train_gen" + shard, "ultra/train_sft" + shard, "ultra/test_gen" + shard,
         "ultra/test_sft" + shard});
  EXPECT_EQ(TrainingError("ultra"),
            "the folder 'F' holds several splits to train on: train_gen (F/train_gen-*.parquet), "
            "train_sft (F/train_sft-*.parquet)");
  EXPECT_THAT(Match("ultra/train_sft-*.parquet"), ElementsAre("ultra/train_sft" + shard));
  // One's name begins as the other's.
  Write({"more/train" + shard, "more/train-more" + shard});
  EXPECT_THAT(TrainingError("more"), testing::HasSubstr("train (F/train-[0-9]*.parquet), train-m"));
  EXPECT_THAT(Match("more/train-[0-9]*.parquet"), ElementsAre("more/train" + shard));
  // None of train.
  Write({"held/test.jsonl", "held/val.jsonl", "held/val2.jsonl", "held/rows.jsonl"});
  EXPECT_EQ(TrainingError("held"),
            "the folder 'F' holds several splits to train on: test (F/test.jsonl), validation "
            "(F/val.jsonl, F/val2.jsonl)");
  Write({"ab/a" + shard, "ab/b" + shard});
  EXPECT_THAT(TrainingError("ab"), testing::HasSubstr("a (F/a-*.parquet), b (F/b-*.parquet)"));
}

TEST_F(MatchDataFilesTest, OneSplitInTwoFormatsIsRefused) {
  Write({"s/train.jsonl", "s/train.parquet", "s/test.jsonl"});
  EXPECT_EQ(TrainingError("s"),
            "the folder 'F' holds the same split in several formats: F/train.jsonl, "
            "F/train.parquet (all of them: F/train.*)");
  EXPECT_TRUE(MatchSplitFiles((dir_ / "s").string(), SplitUse::kEvaluation).ok());
  fs::rename(dir_ / "s/train.parquet", dir_ / "s/train2.parquet");
  EXPECT_EQ(MatchSplitFiles((dir_ / "s").string(), SplitUse::kTraining)->files.size(), 2u);
}

TEST_F(MatchDataFilesTest, AFolderOfTheHubIsWhatItsDataFolderHolds) {
  Write({"hub/README.md", "hub/dataset_infos.json", "hub/data/train.jsonl", "hub/data/test.jsonl"});
  EXPECT_THAT(Match("hub"), ElementsAre("hub/data/test.jsonl", "hub/data/train.jsonl"));
  const auto split = MatchSplitFiles((dir_ / "hub").string(), SplitUse::kTraining);
  EXPECT_THAT(split->files, ElementsAre((dir_ / "hub/data/train.jsonl").string()));
  EXPECT_THAT(Match("hub/*.json"), ElementsAre());
  EXPECT_THAT(Match("hub/dataset_infos.json"), ElementsAre("hub/dataset_infos.json"));  // named
  Write({"hub/rows.csv"});
  EXPECT_THAT(Match("hub"), ElementsAre("hub/rows.csv"));
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
