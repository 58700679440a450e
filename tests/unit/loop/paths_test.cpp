#include "worker/trainer/loop/paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string ErrorOf(const std::string& uri, const std::vector<std::string>& roots) {
  try {
    return "accepted: " + ResolveInput(uri, "", roots, "model.name");
  } catch (const TrainerError& error) {
    EXPECT_EQ(error.failure().field(), "model.name");
    return error.what();
  }
}

TEST(PathsTest, UriWinsOverNameAndFileSchemeIsTakenOff) {
  const TinyJob job;
  EXPECT_EQ(ResolveInput("file://" + job.Path("model"), "x", {}, "model.name"), job.Path("model"));
  EXPECT_EQ(ResolveInput("", job.Path("model"), {}, "model.name"), job.Path("model"));
}

TEST(PathsTest, RelativePathsResolveBelowTheFirstRootThatHasThem) {
  const TinyJob job;
  fs::create_directory(job.Path("empty"));
  EXPECT_EQ(ResolveInput("", "model", {job.Path("empty"), job.dir()}, "model.name"),
            job.Path("model"));
  EXPECT_THAT(ErrorOf("model", {job.Path("empty")}), HasSubstr("does not exist"));
}

TEST(PathsTest, NothingOutsideOfTheRoots) {
  const TinyJob job;
  fs::create_directory(job.Path("root"));
  const std::vector<std::string> roots = {job.Path("root")};
  EXPECT_THAT(ErrorOf(job.Path("model"), roots), HasSubstr("outside"));
  EXPECT_THAT(ErrorOf("../model", roots), HasSubstr("outside"));
  fs::create_symlink(job.Path("model"), job.Path("root/link"));
  EXPECT_THAT(ErrorOf("link", roots), HasSubstr("outside"));
  // A sibling whose name begins like the root's.
  fs::create_directory(job.Path("root2"));
  EXPECT_THAT(ErrorOf(job.Path("root2"), roots), HasSubstr("outside"));
}

TEST(PathsTest, LinksWithinARootAreFollowed) {
  const TinyJob job;
  fs::create_directories(job.Path("root/model"));
  const std::vector<std::string> roots = {job.Path("root")};
  fs::create_symlink("model", job.Path("root/relative"));
  fs::create_symlink(job.Path("root/model"), job.Path("root/absolute"));
  EXPECT_EQ(ErrorOf("relative", roots), "accepted: " + job.Path("root/model"));
  EXPECT_EQ(ErrorOf(job.Path("root/relative"), roots), "accepted: " + job.Path("root/model"));
  EXPECT_EQ(ErrorOf("absolute", roots), "accepted: " + job.Path("root/model"));
  EXPECT_EQ(ErrorOf(job.Path("root/absolute"), roots), "accepted: " + job.Path("root/model"));
  EXPECT_THAT(ErrorOf(job.Path("root/missing"), roots), HasSubstr("does not exist"));
}

TEST(PathsTest, WhatLooksLikeANameOnTheHubIsToldHowToGetIt) {
  const TinyJob job;
  std::vector<std::string> roots = {job.dir(), "/elsewhere"};
  const auto action = [&](const std::string& name, const std::string& field) -> std::string {
    try {
      return "accepted: " + ResolveInput("", name, roots, field);
    } catch (const TrainerError& error) {
      return error.failure().action();
    }
  };
  EXPECT_THAT(action("meta-llama/Llama-3.1-8B", "model.name"),
              HasSubstr("`hf download meta-llama/Llama-3.1-8B --local-dir " + job.dir() +
                        "/meta-llama/Llama-3.1-8B`"));
  EXPECT_THAT(action("tatsu-lab/alpaca", "dataset.name"),
              HasSubstr("`hf download tatsu-lab/alpaca --repo-type dataset --local-dir " +
                        job.dir() + "/tatsu-lab/alpaca`"));
  roots = {job.dir(), "/datasets", "/outputs"};
  EXPECT_THAT(action("tatsu-lab/alpaca", "dataset.name"),
              HasSubstr("--local-dir /datasets/tatsu-lab/alpaca`"));
  EXPECT_THAT(action("org/model", "model.name"), HasSubstr("--local-dir " + job.dir() + "/org/"));
  for (const char* path : {"/data/model", "./data/model", "data/llama/model", "model"}) {
    EXPECT_THAT(action(path, "model.name"), testing::Not(HasSubstr("hf download"))) << path;
  }
  for (const char* path : {"data/rows.jsonl", "data/rows.csv.gz", "data/rows.arrow", "d/r.tsv"}) {
    EXPECT_THAT(action(path, "dataset.name"), HasSubstr("put the file below one of the ")) << path;
  }
}

TEST(PathsTest, AModelIsAFolder) {
  const TinyJob job;
  job.WriteFile("m.gguf", "GGUF");
  job.WriteFile("model.safetensors", "");
  const auto failure = [&](const std::string& path) {
    try {
      ResolveFolder(path, "", {job.dir()}, "model.uri");
    } catch (const TrainerError& error) {
      return error.failure();
    }
    return liger::v1::Failure();
  };
  EXPECT_THAT(failure(job.Path("m.gguf")).message(), testing::EndsWith("m.gguf' is a file"));
  for (const std::string& path : {job.Path("m.gguf"), std::string("none.gguf")}) {
    EXPECT_THAT(failure(path).action(),
                HasSubstr("`liger-trainer import-gguf " + path + " --output"));
  }
  EXPECT_THAT(failure(job.Path("model.safetensors")).action(), HasSubstr("name the one that the"));
  EXPECT_EQ(failure(job.dir()).message(), "");
}

TEST(PathsTest, OtherSchemesAreRefusedByName) {
  EXPECT_THAT(ErrorOf("s3://bucket/model", {}), HasSubstr("'s3'"));
}

std::vector<std::string> FilesOf(const std::string& uri, const std::vector<std::string>& roots) {
  return ResolveInputFiles(uri, "", roots, "dataset.uri").files;
}

TEST(PathsTest, FoldersAndPatternsAreTheirFilesBelowTheRoots) {
  const TinyJob job;
  for (const char* name : {"a/x.jsonl", "root/b/2.jsonl", "root/b/1.jsonl"}) {
    fs::create_directories(fs::path(job.Path(name)).parent_path());
    std::ofstream(job.Path(name)) << "{}";
  }
  const std::string one = job.Path("root/b/1.jsonl"), two = job.Path("root/b/2.jsonl");
  // The first root has nothing that matches.
  const std::vector<std::string> roots = {job.Path("a"), job.Path("root")};
  EXPECT_THAT(FilesOf("b", roots), testing::ElementsAre(one, two));
  EXPECT_THAT(FilesOf("b/*.jsonl", roots), testing::ElementsAre(one, two));
  EXPECT_THAT(FilesOf("*/2.jsonl", roots), testing::ElementsAre(two));
  EXPECT_THAT(FilesOf(job.Path("root/b/[1]*"), roots), testing::ElementsAre(one));
  EXPECT_THAT(FilesOf(job.Path("root/b/1.jsonl"), {}), testing::ElementsAre(one));
}

TEST(PathsTest, WhatAFolderOfSeveralSplitsIsToBeReplacedByIsSaid) {
  const TinyJob job;
  fs::create_directory(job.Path("ultra"));
  for (const char* name : {"train_sft", "train_gen"}) {
    job.WriteFile(std::string("ultra/") + name + "-00000-of-00001.jsonl", "{}");
  }
  try {
    FilesOf("ultra", {job.dir()});
    ADD_FAILURE() << "accepted";
  } catch (const TrainerError& error) {
    EXPECT_EQ(error.failure().field(), "dataset.uri");
    EXPECT_THAT(error.what(), HasSubstr("train_sft (" + job.Path("ultra/train_sft-*.jsonl)")));
    EXPECT_THAT(error.failure().action(), HasSubstr("instead of the folder"));
  }
  EXPECT_THAT(FilesOf("ultra/train_sft-*.jsonl", {job.dir()}),
              testing::ElementsAre(job.Path("ultra/train_sft-00000-of-00001.jsonl")));
}

TEST(PathsTest, AnotherSetOfTrainAloneIsEvaluatedOn) {
  const TinyJob job;
  fs::create_directory(job.Path("alpaca-eval"));
  job.WriteFile("alpaca-eval/train.jsonl", "{}");
  const std::string file = job.Path("alpaca-eval/train.jsonl");
  const auto evaluate = [&](const std::vector<std::string>& trained) {
    return ResolveInputFiles("alpaca-eval", "", {job.dir()}, "dataset.eval_uri",
                             SplitUse::kEvaluation, trained);
  };
  EXPECT_THAT(evaluate({job.Path("sft.jsonl")}).files, testing::ElementsAre(file));
  try {
    evaluate({job.Path("sft.jsonl"), file});
    ADD_FAILURE() << "accepted";
  } catch (const TrainerError& error) {
    EXPECT_EQ(error.failure().field(), "dataset.eval_uri");
    EXPECT_THAT(error.what(), HasSubstr("holds no split to evaluate on, but train (" + file));
  }
}

// The Hub's cache.
TEST(PathsTest, ALinksNameTellsItsSplit) {
  const TinyJob job;
  fs::create_directories(job.Path("data/snapshot"));
  for (const auto& [blob, name] : {std::pair("1f", "train.jsonl"), {"2e", "test.jsonl"}}) {
    std::ofstream(job.Path("data/") + blob) << "{}";
    fs::create_symlink(std::string("../") + blob, job.Path("data/snapshot/") + name);
  }
  const SplitFiles files =
      ResolveInputFiles(job.Path("data/snapshot"), "", {job.dir()}, "dataset.uri");
  EXPECT_THAT(files.files, testing::ElementsAre(job.Path("data/snapshot/train.jsonl")));
  EXPECT_THAT(files.left_out, testing::ElementsAre(job.Path("data/snapshot/test.jsonl")));
}

TEST(PathsTest, ALinksEndingCountsWhereItsTargetHasNone) {
  const TinyJob job;
  fs::create_directories(job.Path("root/snapshot"));
  fs::create_directories(job.Path("a/snapshot"));
  std::ofstream(job.Path("root/1f")) << "text\nab\n";
  for (const char* name : {"x.csv", "x.jsonl.gz", "x.parquet", "x.arrow"}) {
    const std::string link = job.Path("root/snapshot/") + name;
    fs::create_symlink("../1f", link);
    EXPECT_THAT(FilesOf(link, {}), testing::ElementsAre(link));
    // The folder of the first root has no such file.
    const std::string relative = std::string("snapshot/") + name;
    EXPECT_THAT(FilesOf(relative, {job.Path("a"), job.Path("root")}), testing::ElementsAre(link));
    EXPECT_THAT(FilesOf("snap*/" + std::string(name), {job.Path("root")}),
                testing::ElementsAre(link));
  }
  fs::create_symlink("1f", job.Path("root/link"));
  EXPECT_THAT(FilesOf("link", {job.Path("root")}), testing::ElementsAre(job.Path("root/1f")));
  std::ofstream(job.Path("root/rows.csv")) << "text\nab\n";
  fs::create_symlink("rows.csv", job.Path("root/rows.json"));
  EXPECT_THAT(FilesOf("rows.json", {job.Path("root")}),
              testing::ElementsAre(job.Path("root/rows.csv")));
}

TEST(PathsTest, PatternsDoNotLeaveTheRoots) {
  const TinyJob job;
  fs::create_directory(job.Path("root"));
  std::ofstream(job.Path("secret.jsonl")) << "{}";
  const std::vector<std::string> roots = {job.Path("root")};
  const auto error = [&](const std::string& uri) {
    try {
      return "accepted: " + FilesOf(uri, roots).front();
    } catch (const TrainerError& error) {
      EXPECT_EQ(error.failure().field(), "dataset.uri");
      return std::string(error.what());
    }
  };
  EXPECT_THAT(error("*.jsonl"), HasSubstr("'*.jsonl' matches no file below"));
  EXPECT_THAT(error("../*.jsonl"), HasSubstr("matches no file"));
  EXPECT_THAT(error(job.Path("*.jsonl")), HasSubstr("matches no file"));
  fs::create_directory(job.Path("root/inner"));
  EXPECT_THAT(error("*/../../*.jsonl"), HasSubstr("outside"));
  fs::create_symlink(job.Path("secret.jsonl"), job.Path("root/link.jsonl"));
  EXPECT_THAT(error("*.jsonl"), HasSubstr("outside"));
  EXPECT_THAT(error("."), HasSubstr("outside"));
}

}  // namespace
}  // namespace liger::trainer
