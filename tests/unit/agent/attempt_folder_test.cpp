#include "worker/agent/attempt_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>

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

TEST_F(AttemptFolderTest, WhatIsKeptOfFailedTasksHasALog) {
  const AttemptArchive archive(dir_, /*keep_count=*/2, absl::Hours(1));
  // Folders are told apart by when they were changed, which two made at once may not be.
  fs::file_time_type time = fs::file_time_type::clock::now() - std::chrono::minutes(1);
  const auto fail = [&](const std::string& task, bool ran) {
    trainer::v1::Ref ref;
    ref.set_job_uid("job");
    ref.set_task_id(task);
    const auto folder = AttemptFolder::Create(archive.attempts_dir(), ref);
    ASSERT_TRUE(folder.ok()) << folder.status();
    if (ran) std::ofstream(folder->log(1)) << "why";
    fs::last_write_time(folder->path(), time += std::chrono::seconds(1));
    archive.Keep(*folder);
    EXPECT_FALSE(fs::exists(folder->path()));
  };
  const auto kept = [&] {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_ + "/failed")) {
      names.push_back(entry.path().extension());
    }
    return names;
  };
  fail("ran", true);
  for (int i = 0; i < 4; ++i) fail("refused" + std::to_string(i), false);
  EXPECT_THAT(kept(), testing::ElementsAre(".ran"));
  fail("later", true);
  fail("last", true);
  EXPECT_THAT(kept(), testing::UnorderedElementsAre(".later", ".last"));
}

}  // namespace
}  // namespace liger::agent
