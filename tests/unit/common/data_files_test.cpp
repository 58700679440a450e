#include "common/data_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

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
  EXPECT_THAT(training({"a" + shard, "b" + shard}), ElementsAre("a" + shard, "b" + shard));
  // A pattern is what it matches.
  split({"train.csv", "test.csv"}, SplitUse::kTraining);
  EXPECT_EQ(MatchSplitFiles((dir_ / "s/*.csv").string(), SplitUse::kTraining)->files.size(), 2u);
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
