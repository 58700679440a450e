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
    return Publish(publication, *root_, [] { return true; });
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
  EXPECT_TRUE(absl::IsFailedPrecondition(Publish(publication, *root_, [] { return false; })));
  EXPECT_EQ(Weights(), "none");
  // The lease ends between moving the folder and showing it.
  int asked = 0;
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Publish(publication, *root_, [&] { return ++asked == 1; })));
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(Weights(), "none");
  ASSERT_TRUE(PublishIt(publication).ok()) << "the next try goes on from there";
  EXPECT_EQ(Weights(), "one");
  EXPECT_EQ(Entries(), 1);
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
