#include "worker/agent/identity.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

class IdentityTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "identity-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::string dir_;
};

TEST_F(IdentityTest, IsTheSameWorkerInAnotherIncarnation) {
  auto first = Identity::Load(dir_).value();
  EXPECT_TRUE(absl::IsFailedPrecondition(Identity::Load(dir_).status())) << "locked";
  const std::string id = first->worker_id();
  const int64_t incarnation = first->incarnation();
  EXPECT_LE(incarnation, absl::ToUnixMicros(absl::Now()));
  first.reset();
  const auto second = Identity::Load(dir_).value();
  EXPECT_EQ(second->worker_id(), id);
  EXPECT_GT(second->incarnation(), incarnation);
}

TEST_F(IdentityTest, TheIncarnationRisesAlsoWhenTheClockWasSetBack) {
  const int64_t tomorrow = absl::ToUnixMicros(absl::Now() + absl::Hours(24));
  ASSERT_TRUE(WriteFileAtomically(dir_ + "/incarnation", absl::StrCat(tomorrow, "\n")).ok());
  EXPECT_EQ(Identity::Load(dir_).value()->incarnation(), tomorrow + 1);
  EXPECT_EQ(Identity::Load(dir_).value()->incarnation(), tomorrow + 2);
}

TEST_F(IdentityTest, ClearsWhatAKilledAgentWasWriting) {
  ASSERT_TRUE(WriteFileAtomically(dir_ + "/term.tmp.12345", "1").ok());
  ASSERT_TRUE(Identity::Load(dir_).ok());
  EXPECT_FALSE(fs::exists(dir_ + "/term.tmp.12345"));
}

}  // namespace
}  // namespace liger::agent
