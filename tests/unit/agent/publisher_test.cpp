#include "worker/agent/publisher.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/file.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

class PublisherTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "publish-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    root_.emplace(Root::Open(dir_ + "/outputs").value());
  }
  void TearDown() override { fs::remove_all(dir_); }

  // A saved result; returns what to publish.
  Publication Save(const std::string& name, const std::string& weights) {
    const std::string source = absl::StrCat(dir_, "/attempt/", name);
    const std::string manifest =
        absl::StrCat(R"({"version": 1, "files": {"w": {"bytes": )", weights.size(),
                     R"(, "sha256": ")", Sha256(weights).substr(7), R"("}}})");
    EXPECT_TRUE(MakeFolders(source).ok());
    EXPECT_TRUE(WriteFileAtomically(source + "/w", weights).ok());
    EXPECT_TRUE(WriteFileAtomically(source + "/manifest.json", manifest).ok());
    return {source, Sha256(manifest), "team/result", false};
  }
  absl::Status PublishIt(const Publication& publication) {
    const auto result = Publish(publication, *root_, [] { return true; });
    if (result.ok()) {
      EXPECT_EQ(*result, PublishResult::kVisible);
    }
    return result.status();
  }
  std::string Weights() { return ReadFile(dir_ + "/outputs/team/result/w").value_or("none"); }
  // Entries of the target's folder, staging leftovers included.
  int Entries() {
    int entries = 0;
    for ([[maybe_unused]] auto& e : fs::directory_iterator(dir_ + "/outputs/team")) ++entries;
    return entries;
  }

  std::string dir_;
  std::optional<Root> root_;
};

TEST_F(PublisherTest, MovesTheWholeFolder) {
  const Publication publication = Save("a", "one");
  ASSERT_TRUE(PublishIt(publication).ok());
  EXPECT_EQ(Weights(), "one");
  EXPECT_FALSE(fs::exists(publication.source_dir));
  EXPECT_EQ(Entries(), 1);
}

TEST_F(PublisherTest, IsIdempotent) {
  const Publication publication = Save("a", "one");
  ASSERT_TRUE(PublishIt(publication).ok());
  EXPECT_TRUE(PublishIt(publication).ok());
  EXPECT_EQ(Weights(), "one");
}

TEST_F(PublisherTest, ReplacesWhatAnEarlierAttemptMadeVisible) {
  const Publication first = Save("a", "one");
  ASSERT_TRUE(PublishIt(first).ok());
  Publication second = Save("b", "two");
  second.replaces = {Sha256("another")};
  EXPECT_TRUE(absl::IsAlreadyExists(PublishIt(second)));
  second.replaces.push_back(first.manifest_digest);
  EXPECT_TRUE(PublishIt(second).ok());
  EXPECT_EQ(Weights(), "two");
  EXPECT_EQ(Entries(), 1);
}

TEST_F(PublisherTest, DoesNotReplaceSomethingElseUnlessTold) {
  ASSERT_TRUE(PublishIt(Save("a", "one")).ok());
  Publication second = Save("b", "two");
  EXPECT_TRUE(absl::IsAlreadyExists(PublishIt(second)));
  EXPECT_EQ(Weights(), "one");
  second.overwrite = true;
  ASSERT_TRUE(PublishIt(second).ok());
  EXPECT_EQ(Weights(), "two");
  EXPECT_EQ(Entries(), 1) << "the old folder is gone";
}

TEST_F(PublisherTest, PublishesNothingWithoutALease) {
  const Publication publication = Save("a", "one");
  EXPECT_EQ(*Publish(publication, *root_, [] { return false; }), PublishResult::kLeaseOver);
  EXPECT_EQ(Weights(), "none");
  // The lease ends between moving the folder and showing it.
  int asked = 0;
  EXPECT_EQ(*Publish(publication, *root_, [&] { return ++asked == 1; }), PublishResult::kLeaseOver);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(Entries(), 0) << "neither result nor staging folder";
  EXPECT_TRUE(fs::exists(publication.source_dir));
  ASSERT_TRUE(PublishIt(publication).ok());
  EXPECT_EQ(Weights(), "one");
  EXPECT_EQ(Entries(), 1);
}

TEST_F(PublisherTest, AFailureLeavesNothingBesideTheTarget) {
  const Publication publication = Save("a", "one");
  ASSERT_TRUE(MakeFolders(dir_ + "/outputs/team").ok());
  // Something appears there between the first look and the rename.
  int asked = 0;
  const auto result = Publish(publication, *root_, [&] {
    if (++asked == 2) fs::create_directories(dir_ + "/outputs/team/result/mine");
    return true;
  });
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(Entries(), 1) << "what appeared";
  EXPECT_TRUE(fs::exists(publication.source_dir + "/w")) << "the result is not lost";
}

TEST_F(PublisherTest, AFileInTheWayIsAFailureAndNoEndOfTheLease) {
  ASSERT_TRUE(MakeFolders(dir_ + "/outputs").ok());
  ASSERT_TRUE(WriteFileAtomically(dir_ + "/outputs/team", "a file").ok());
  EXPECT_FALSE(PublishIt(Save("a", "one")).ok());
}

TEST_F(PublisherTest, GoesOnWhereAKilledOneStopped) {
  const Publication publication = Save("a", "one");
  const std::string staged = absl::StrCat(dir_, "/outputs/team/.result.",
                                          publication.manifest_digest.substr(7, 16), ".part");
  ASSERT_TRUE(MakeFolders(dir_ + "/outputs/team").ok());
  fs::rename(publication.source_dir, staged);
  ASSERT_TRUE(PublishIt(publication).ok());
  EXPECT_EQ(Weights(), "one");
  EXPECT_EQ(Entries(), 1);
}

TEST_F(PublisherTest, WhatALostWorkerHadBegunToCopyGoesWithTheNextResult) {
  const std::string folder = dir_ + "/outputs/team/";
  ASSERT_TRUE(MakeFolders(folder + ".result.0123456789abcdef.part").ok());
  ASSERT_TRUE(MakeFolders(folder + ".result.b.0123456789abcdef.part").ok());
  ASSERT_TRUE(PublishIt(Save("a", "one")).ok());
  EXPECT_FALSE(fs::exists(folder + ".result.0123456789abcdef.part"));
  EXPECT_TRUE(fs::exists(folder + ".result.b.0123456789abcdef.part")) << "of another output";
}

TEST_F(PublisherTest, ClearStagingTakesBackWhatAKilledOneMoved) {
  const Publication publication = Save("a", "one");
  ClearStaging(publication, *root_);  // nothing there
  const std::string staged = absl::StrCat(dir_, "/outputs/team/.result.",
                                          publication.manifest_digest.substr(7, 16), ".part");
  ASSERT_TRUE(MakeFolders(dir_ + "/outputs/team").ok());
  fs::rename(publication.source_dir, staged);
  ClearStaging(publication, *root_);
  EXPECT_EQ(Entries(), 0);
  EXPECT_TRUE(fs::exists(publication.source_dir + "/w"));
  fs::copy(publication.source_dir, staged);
  ClearStaging(publication, *root_);
  EXPECT_EQ(Entries(), 0) << "a copy, from another file system";
}

TEST_F(PublisherTest, RefusesPlacesOutsideOfTheRoot) {
  Publication publication = Save("a", "one");
  for (const char* uri : {"../elsewhere", "/tmp/elsewhere", "s3://bucket/x", "."}) {
    publication.output_uri = uri;
    EXPECT_FALSE(PublishIt(publication).ok()) << uri;
  }
  EXPECT_TRUE(fs::exists(publication.source_dir));
}

TEST_F(PublisherTest, VerifiesEveryFileOfTheManifest) {
  const Publication good = Save("a", "one");
  EXPECT_TRUE(VerifyManifest(good.source_dir, good.manifest_digest).ok());
  EXPECT_TRUE(absl::IsDataLoss(VerifyManifest(good.source_dir, Sha256("another"))));
  ASSERT_TRUE(WriteFileAtomically(good.source_dir + "/w", "eno").ok());
  EXPECT_TRUE(absl::IsDataLoss(VerifyManifest(good.source_dir, good.manifest_digest)));
  ASSERT_TRUE(WriteFileAtomically(good.source_dir + "/w", "on").ok());
  EXPECT_TRUE(absl::IsDataLoss(VerifyManifest(good.source_dir, good.manifest_digest)));
  fs::remove(good.source_dir + "/w");
  EXPECT_TRUE(absl::IsDataLoss(VerifyManifest(good.source_dir, good.manifest_digest)));
}

TEST_F(PublisherTest, AManifestCannotPointElsewhere) {
  const std::string source = dir_ + "/attempt/x";
  const std::string manifest = R"({"files": {"../../secret": {"bytes": 1, "sha256": "x"}}})";
  ASSERT_TRUE(MakeFolders(source).ok());
  ASSERT_TRUE(WriteFileAtomically(source + "/manifest.json", manifest).ok());
  EXPECT_TRUE(absl::IsDataLoss(VerifyManifest(source, Sha256(manifest))));
}

}  // namespace
}  // namespace liger::agent
