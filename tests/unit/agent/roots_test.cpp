#include "worker/agent/roots.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "common/file.h"
#include "worker/agent/reclaim.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

class RootsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "roots-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    fs::create_directories(dir_ / "root/models/tiny");
    fs::create_directories(dir_ / "outside/secret");
    fs::create_directory_symlink(dir_ / "outside", dir_ / "root/escape");
    fs::create_directory_symlink("models/tiny", dir_ / "root/alias");
    root_.emplace(Root::Open((dir_ / "root").string()).value());
  }
  void TearDown() override { fs::remove_all(dir_); }

  fs::path dir_;
  std::optional<Root> root_;
};

TEST_F(RootsTest, FindsWhatLiesBelow) {
  for (const std::string& uri :
       {std::string("models/tiny"), std::string("./models//tiny/"), std::string("models/x/../tiny"),
        (dir_ / "root/models/tiny").string(), "file://" + (dir_ / "root/models/tiny").string()}) {
    EXPECT_TRUE(root_->Check(uri).ok()) << uri;
    EXPECT_EQ(root_->Relative(uri).value(), "models/tiny") << uri;
  }
  EXPECT_TRUE(root_->Check("alias").ok()) << "a link that stays below";
  fs::create_directory_symlink(dir_ / "root/models", dir_ / "root/absolute");
  EXPECT_TRUE(root_->Check("absolute/tiny").ok()) << "an absolute one, too";
  EXPECT_TRUE(absl::IsNotFound(root_->Check("models/none")));
}

TEST_F(RootsTest, RefusesWhatLeadsOut) {
  for (const std::string& uri :
       {std::string("../outside"), std::string("models/../../outside"),
        std::string("escape/secret"), std::string("escape"), std::string("/etc/passwd"),
        std::string("file:///etc"), (dir_ / "outside").string(), (dir_ / "root2").string()}) {
    EXPECT_TRUE(absl::IsPermissionDenied(root_->Check(uri))) << uri;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(root_->Check("s3://bucket/model")));
  EXPECT_TRUE(absl::IsInvalidArgument(root_->Check(std::string("a\0b", 3))));
}

TEST_F(RootsTest, InputsMayLieBelowAnyRoot) {
  const Root other = Root::Open((dir_ / "outside").string()).value();
  const std::vector<const Root*> roots = {&*root_, &other};
  EXPECT_TRUE(CheckInputUri((dir_ / "outside/secret").string(), roots).ok());
  EXPECT_TRUE(CheckInputUri("not-there.jsonl", roots).ok()) << "the trainer's to report";
  const absl::Status refused = CheckInputUri("/etc/passwd", roots);
  EXPECT_TRUE(absl::IsPermissionDenied(refused));
  EXPECT_EQ(refused.message(),
            "'/etc/passwd' is not below " + root_->path() + ", " + other.path());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckInputUri("../x", roots)));
  EXPECT_TRUE(absl::IsPermissionDenied(CheckInputUri("escape/secret", roots)))
      << "though the second root has no such entry";
  EXPECT_TRUE(CheckInputUri("secret", {&other, &*root_}).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckInputUri("escape/secret", {&other, &*root_})))
      << "the first root has no such entry";
  fs::create_directory_symlink(dir_ / "root2", dir_ / "outside/models");
  EXPECT_TRUE(CheckInputUri("models", roots).ok()) << "the first root has it, and wins";
}

TEST_F(RootsTest, AllowedFoldersAreForAbsolutePathsOnly) {
  const Root outside = Root::Open((dir_ / "outside").string()).value();
  const std::string secret = (dir_ / "outside/secret").string();
  EXPECT_TRUE(absl::IsPermissionDenied(CheckInputUri(secret, {&*root_})));
  EXPECT_TRUE(CheckInputUri(secret, {&*root_}, {&outside}).ok());
  EXPECT_TRUE(CheckInputUri("file://" + secret, {&*root_}, {&outside}).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckInputUri("/etc/passwd", {&*root_}, {&outside})));
  // Relative ones are looked for below the roots.
  const Root root = Root::Open((dir_ / "root").string()).value();
  EXPECT_TRUE(CheckInputUri("escape/secret", {&outside}, {&root}).ok());
}

TEST_F(RootsTest, MakesFoldersBelowOnly) {
  EXPECT_TRUE(root_->OpenOrMakeFolder("a/b/c").ok());
  EXPECT_TRUE(fs::is_directory(dir_ / "root/a/b/c"));
  EXPECT_FALSE(root_->OpenOrMakeFolder("escape/new").ok());
  EXPECT_FALSE(fs::exists(dir_ / "outside/new"));
}

TEST_F(RootsTest, RemovesAnOutputOnlyByItsDigest) {
  fs::create_directories(dir_ / "root/result");
  std::ofstream(dir_ / "root/result/manifest.json") << R"({"files":{}})";
  worker::v1::PublishedOutput output;
  output.set_uri("file://" + (dir_ / "root/result").string());
  output.set_manifest_digest("sha256:0");
  EXPECT_TRUE(RemoveOutput(*root_, output).ok());
  EXPECT_TRUE(fs::exists(dir_ / "root/result")) << "another job's model";
  output.set_manifest_digest(*Sha256File((dir_ / "root/result/manifest.json").string()));
  EXPECT_TRUE(RemoveOutput(*root_, output).ok());
  EXPECT_FALSE(fs::exists(dir_ / "root/result"));
  EXPECT_TRUE(RemoveOutput(*root_, output).ok()) << "again";
}

TEST_F(RootsTest, RemovesOfAnOutputWhatItsManifestNamesAndNothingElse) {
  const fs::path result = dir_ / "root/result";
  fs::create_directories(result / "deep/er");
  fs::create_directories(result / "sub");
  for (const char* name : {"weights", "deep/er/file", "sub/manifest.json", "notes.txt"}) {
    std::ofstream(result / name) << "x";
  }
  fs::create_directory_symlink(dir_ / "outside", result / "link");
  std::ofstream(dir_ / "outside/kept") << "x";
  std::ofstream(result / "manifest.json")
      << R"({"files":{"weights":{},"deep/er/file":{},"gone":{},"link/kept":{}}})";
  worker::v1::PublishedOutput output;
  output.set_uri("result");
  output.set_manifest_digest(*Sha256File((result / "manifest.json").string()));
  EXPECT_FALSE(RemoveOutput(*root_, output).ok()) << "a folder that leads elsewhere";
  EXPECT_TRUE(fs::exists(dir_ / "outside/kept"));
  fs::remove(result / "link");
  EXPECT_TRUE(RemoveOutput(*root_, output).ok());
  EXPECT_TRUE(fs::exists(result / "sub/manifest.json")) << "another job's model";
  EXPECT_TRUE(fs::exists(result / "notes.txt"));
  for (const char* name : {"weights", "deep", "manifest.json"}) {
    EXPECT_FALSE(fs::exists(result / name)) << name;
  }
}

TEST_F(RootsTest, RemovesNeitherTheRootNorWhatLiesElsewhere) {
  for (const char* name : {"root/manifest.json", "outside/manifest.json"}) {
    std::ofstream(dir_ / name) << R"({"files":{}})";
  }
  worker::v1::PublishedOutput output;
  output.set_manifest_digest(*Sha256File((dir_ / "root/manifest.json").string()));
  for (const char* uri : {".", "../outside"}) {
    output.set_uri(uri);
    EXPECT_FALSE(RemoveOutput(*root_, output).ok()) << uri;
  }
  output.set_uri("escape");  // a link
  EXPECT_TRUE(RemoveOutput(*root_, output).ok());
  EXPECT_TRUE(fs::exists(dir_ / "outside/manifest.json"));
}

TEST_F(RootsTest, TheLastCheckpointTakesItsFolderAlong) {
  worker::v1::PublishedOutput outputs[2];
  for (int i = 0; i < 2; ++i) {
    const fs::path dir = dir_ / "root/run.checkpoints" / ("checkpoint-" + std::to_string(i));
    fs::create_directories(dir);
    std::ofstream(dir / "manifest.json") << R"({"files":{}})";
    outputs[i].set_uri("file://" + dir.string());
    outputs[i].set_manifest_digest(*Sha256File((dir / "manifest.json").string()));
  }
  EXPECT_TRUE(RemoveOutput(*root_, outputs[0]).ok());
  EXPECT_TRUE(fs::exists(dir_ / "root/run.checkpoints/checkpoint-1"));
  EXPECT_TRUE(RemoveOutput(*root_, outputs[1]).ok());
  EXPECT_FALSE(fs::exists(dir_ / "root/run.checkpoints"));
}

}  // namespace
}  // namespace liger::agent
