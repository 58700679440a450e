// A worker whose disk fills up while a job runs there. The disk is a tmpfs that only
// this test's processes see, so it needs root or user namespaces.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/expectations.h"
#include "tests/e2e/tiny_model.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Becomes root in a user namespace of this process's own. REQUIRES: one thread.
bool EnterUserNamespace() {
  const std::string uid = absl::StrCat("0 ", getuid(), " 1"),
                    gid = absl::StrCat("0 ", getgid(), " 1");
  if (unshare(CLONE_NEWUSER) != 0) return false;
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << uid;
  std::ofstream("/proc/self/gid_map") << gid;
  return geteuid() == 0;
}

class SmallDisk {
 public:
  SmallDisk() {
    std::string pattern = (fs::temp_directory_path() / "liger-disk-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
    mounted_ = (geteuid() == 0 || EnterUserNamespace()) && unshare(CLONE_NEWNS) == 0 &&
               mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               mount("none", path_.c_str(), "tmpfs", 0, "size=64m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
    fs::remove_all(path_);
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return path_; }

  // Takes all room but `left` bytes.
  void Fill(int64_t left) {
    struct statvfs status;
    ASSERT_EQ(statvfs(path_.c_str(), &status), 0);
    const int64_t free =
        static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
    ASSERT_GT(free, left);
    std::ofstream(filler(), std::ios::binary) << std::string(free - left, 'x');
  }
  void Free() { fs::remove(filler()); }

 private:
  std::string filler() const { return path_ + "/filler"; }

  std::string path_;
  bool mounted_ = false;
};

// A folder of the cluster's worker moves to the disk, with what is in it.
void MoveTo(const SmallDisk& disk, Cluster& cluster, const std::string& name) {
  const fs::path folder = cluster.dir() + "/" + name;
  cluster.worker(0).Terminate();
  fs::copy(folder, disk.path() + "/" + name, fs::copy_options::recursive);
  fs::remove_all(folder);
  fs::create_directory_symlink(disk.path() + "/" + name, folder);
  cluster.StartWorker(0);
  cluster.client().WaitForReadyWorkers(1);
}

// Also: one that finds the disk full already does not begin to train.
TEST(DiskFullTest, AJobThatCannotSaveFailsAndTheNextOneIsNotHurt) {
  SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "NOT TESTED: needs root or user namespaces to mount a disk";
  Cluster cluster({});
  MoveTo(disk, cluster, "worker-0");
  // Of some megabytes.
  WriteTinyModel(cluster.models() + "/wide", /*hidden_size=*/256);
  v1::JobSpec spec = cluster.TinyJob("job", 300);
  spec.mutable_model()->set_uri("wide");
  cluster.client().Create(spec);
  CatchInMidRun(cluster, "job");
  // Enough for what the job tells, not for its model.
  disk.Fill(/*left=*/1 << 20);
  const v1::Job failed = cluster.client().WaitForEnd("job", absl::Minutes(3));
  ExpectFailed(failed, v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(failed.status().message(), HasSubstr("No space left on device"));
  EXPECT_THAT(failed.status().message(), HasSubstr("the save needs"));
  EXPECT_THAT(failed.status().action(), HasSubstr("Free space"));
  EXPECT_FALSE(fs::exists(cluster.output("job")));
  ExpectGaplessEvents(cluster, "job");
  cluster.ExpectIdle();

  disk.Free();
  spec.set_name("next");
  spec.mutable_training()->set_max_steps(2);
  cluster.client().Create(spec);
  ExpectSucceeded(cluster, cluster.client().WaitForEnd("next", absl::Minutes(3)), 2);
  cluster.ExpectIdle();

  disk.Fill(/*left=*/1 << 20);
  spec.set_name("late");
  cluster.client().Create(spec);
  const v1::Job untrained = cluster.client().WaitForEnd("late", absl::Minutes(3));
  ExpectFailed(untrained, v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(untrained.status().message(), HasSubstr("the save needs"));
  EXPECT_EQ(untrained.status().progress().step(), 0);
  cluster.ExpectIdle();
}

// The attempt's folder has room: what is full is the disk where the checkpoint would be published.
TEST(DiskFullTest, APauseWithoutRoomAtTheOutputIsNone) {
  SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "NOT TESTED: needs root or user namespaces to mount a disk";
  Cluster cluster({});
  MoveTo(disk, cluster, "outputs");
  WriteTinyModel(cluster.models() + "/wide", /*hidden_size=*/256);
  v1::JobSpec spec = cluster.TinyJob("job", 5000);
  spec.mutable_model()->set_uri("wide");
  cluster.client().Create(spec);
  CatchInMidRun(cluster, "job");
  disk.Fill(/*left=*/1 << 20);
  cluster.client().Pause("job");
  const v1::Job running = cluster.client().WaitForState("job", v1::JobStatus::RUNNING);
  EXPECT_TRUE(cluster.client().Artifacts("job").empty());
  const auto& warnings = running.status().warnings();
  const auto not_paused = std::ranges::find_if(
      warnings, [](const v1::Warning& warning) { return warning.code() == "NotPaused"; });
  ASSERT_NE(not_paused, warnings.end()) << running.status().DebugString();
  EXPECT_THAT(not_paused->message(), HasSubstr("No space left on device; the save needs"));
  EXPECT_EQ(cluster.Trainers().size(), 1u);

  disk.Free();
  cluster.client().Pause("job");
  cluster.client().WaitForState("job", v1::JobStatus::PAUSED);
  EXPECT_EQ(cluster.client().Artifacts("job").size(), 1u);
  cluster.client().Cancel("job");
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
