#include "worker/trainer/loop/paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

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

TEST(PathsTest, OtherSchemesAreRefusedByName) {
  EXPECT_THAT(ErrorOf("s3://bucket/model", {}), HasSubstr("'s3'"));
}

}  // namespace
}  // namespace liger::trainer
