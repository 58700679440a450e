#include "worker/agent/attempt_folder.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

class AttemptFolderTest : public testing::Test {
 protected:
  AttemptFolderTest() {
    std::string pattern = (fs::temp_directory_path() / "attempts-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
  }
  ~AttemptFolderTest() override { fs::remove_all(dir_); }

  absl::StatusOr<AttemptFolder> Create(const std::string& job_uid, const std::string& task_id) {
    trainer::v1::Ref ref;
    ref.set_job_uid(job_uid);
    ref.set_task_id(task_id);
    return AttemptFolder::Create(dir_, ref);
  }

  std::string dir_;
};

TEST_F(AttemptFolderTest, ADryRunIsOfNoJob) {
  const auto folder = Create("", "dry-run-1");
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_TRUE(fs::is_directory(folder->work()));
}

TEST_F(AttemptFolderTest, IdsStayFileNames) {
  EXPECT_TRUE(Create("job", "train").ok());
  for (const char* id : {"..", "a/b", ".hidden", "a b"}) {
    EXPECT_FALSE(Create(id, "train").ok()) << id;
    EXPECT_FALSE(Create("job", id).ok()) << id;
  }
  EXPECT_FALSE(Create("job", "").ok());
}

}  // namespace
}  // namespace liger::agent
