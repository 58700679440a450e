// `liger-coordinator backup` of a coordinator that runs, and what a restore
// makes of the jobs that went on meanwhile, with real processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "tests/e2e/expectations.h"
#include "tests/paths.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using v1::Job;
using v1::JobStatus;

struct Outcome {
  int code = 0;
  std::string output;
};

Outcome RunCoordinator(const Cluster& cluster, const std::string& arguments) {
  const std::string log = cluster.dir() + "/tmp/verb.log";
  const std::string command =
      absl::StrCat(BinDir(), "/liger-coordinator ", arguments, " > ", log, " 2>&1");
  Outcome outcome;
  outcome.code = WEXITSTATUS(std::system(command.c_str()));
  outcome.output = ReadFile(log).value_or("");
  fs::remove(log);
  return outcome;
}

std::string LogOf(const std::string& data_dir, const std::string& job_uid) {
  std::string text;
  for (const auto& file : fs::recursive_directory_iterator(data_dir + "/logs/" + job_uid)) {
    if (file.is_regular_file()) text += ReadFile(file.path().string()).value_or("");
  }
  return text;
}

// Waits until the agent has kept the folder of an attempt of this job.
bool IsKept(const Cluster& cluster, const std::string& job_uid) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (absl::Now() < deadline) {
    for (const std::string& folder : cluster.FailedFolders()) {
      if (folder.find(job_uid) != std::string::npos) return true;
    }
    absl::SleepFor(absl::Milliseconds(50));
  }
  return false;
}

// The data folder is lost; `backup` takes its place.
void Restore(Cluster& cluster, const std::string& backup) {
  const std::string data = cluster.dir() + "/coordinator";
  cluster.coordinator().Kill();
  fs::remove_all(data);
  const Outcome restored =
      RunCoordinator(cluster, absl::StrCat("restore --from ", backup, " --data-dir ", data));
  ASSERT_EQ(restored.code, 0) << restored.output;
  cluster.StartCoordinator();
  cluster.client().WaitForReadyWorkers(1);
}

TEST(BackupTest, OnlineBackupAndRestore) {
  Cluster cluster({.cpu_slots = 2});
  const std::string data = cluster.dir() + "/coordinator";
  const std::string backup = cluster.dir() + "/outputs/backup";
  const Job done =
      cluster.client().WaitForEnd(cluster.client().Create(cluster.TinyJob("done", 10)).name());
  ASSERT_EQ(done.status().state(), JobStatus::SUCCEEDED);
  cluster.client().Create(cluster.TinyJob("known", kLongRun));
  CatchInMidRun(cluster, "known");
  const Outcome made =
      RunCoordinator(cluster, absl::StrCat("backup --data-dir ", data, " --out ", backup));
  ASSERT_EQ(made.code, 0) << made.output;
  EXPECT_FALSE(LogOf(backup, done.uid()).empty());
  EXPECT_EQ(LogOf(backup, done.uid()), LogOf(data, done.uid()));

  // After the backup: what nobody will know of.
  const Job unknown = cluster.client().Create(cluster.TinyJob("unknown", kEndlessRun));
  cluster.client().WaitForStep("unknown", 1);
  Restore(cluster, backup);

  EXPECT_EQ(cluster.client().Get("done").status().state(), JobStatus::SUCCEEDED);
  EXPECT_EQ(LogOf(data, done.uid()), LogOf(backup, done.uid()));
  // Its first attempt may have gone on past what the backup knows, so it is
  // stopped, its files are kept, and the job runs again.
  const Job known = cluster.client().WaitForEnd("known");
  ExpectSucceeded(cluster, known, kLongRun);
  // One in between may have met a device that the unknown job still held.
  const v1::Attempt& first = *known.status().attempts().rbegin();
  EXPECT_EQ(first.epoch(), 1);
  EXPECT_EQ(first.state(), "LOST");
  EXPECT_THAT(first.detail(), HasSubstr("restored from a backup"));
  EXPECT_GT(known.status().epoch(), int64_t{1} << 32);
  EXPECT_EQ(known.status().restarts(), 1);
  EXPECT_TRUE(IsKept(cluster, known.uid()));
  // The one that nobody knows is stopped, and its files are kept, too.
  EXPECT_TRUE(cluster.WaitForNoTrainers(absl::Seconds(20)));
  EXPECT_TRUE(IsKept(cluster, unknown.uid()));
  // Its name is free.
  const Job again = cluster.client().Create(cluster.TinyJob("unknown", 10));
  EXPECT_NE(again.uid(), unknown.uid());
  ExpectSucceeded(cluster, cluster.client().WaitForEnd("unknown"), 10);

  // A second disaster, and still no newer backup: the workers have seen a higher
  // term than the backup's, and take the second restore's. The job runs again,
  // and does not overwrite what it published in the first one's life.
  const std::string model = cluster.output("known") + "/model.safetensors";
  const std::string digest = *Sha256File(model);
  absl::SleepFor(absl::Seconds(11));
  Restore(cluster, backup);
  const Job third = cluster.client().WaitForEnd("known");
  EXPECT_EQ(third.status().state(), JobStatus::FAILED);
  EXPECT_THAT(third.status().failure().message(), HasSubstr("exists already"));
  EXPECT_GT(third.status().epoch(), known.status().epoch());
  EXPECT_EQ(*Sha256File(model), digest);
  cluster.ExpectIdle();
}

TEST(BackupTest, BadInputIsOneClearError) {
  Cluster cluster({.workers = 0});
  const std::string data = cluster.dir() + "/coordinator";
  const std::string out = cluster.dir() + "/outputs/backup";
  Outcome outcome =
      RunCoordinator(cluster, absl::StrCat("backup --data-dir ", cluster.models(), " --out ", out));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr(cluster.models() + "/liger.db"));
  EXPECT_FALSE(fs::exists(out));
  EXPECT_FALSE(fs::exists(out + ".part"));

  outcome = RunCoordinator(cluster, absl::StrCat("backup --data-dir ", data, " --out ", data));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr(data + " exists"));

  outcome = RunCoordinator(
      cluster, absl::StrCat("backup --data-dir ", data, " --out ", data, "/logs/../backup"));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr("lies in the data folder"));
  EXPECT_FALSE(fs::exists(data + "/backup"));

  outcome = RunCoordinator(cluster, absl::StrCat("backup --data-dir ", data, " --out ", out));
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  outcome = RunCoordinator(cluster, absl::StrCat("restore --from ", out, " --data-dir ", data));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr("is not empty"));

  const auto set_aside = [&](const std::string& from) {
    return RunCoordinator(cluster, absl::StrCat("restore --from ", from, " --data-dir ", data,
                                                " --set-aside"));
  };
  outcome = set_aside(out);
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr("another coordinator"));
  cluster.coordinator().Kill();
  const auto moved = [&cluster] {
    std::vector<fs::path> folders;
    for (const fs::directory_entry& entry : fs::directory_iterator(cluster.dir())) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory() && name.starts_with("coordinator.")) folders.push_back(entry.path());
    }
    return folders;
  };
  EXPECT_NE(set_aside(out + "-none").code, 0);
  EXPECT_TRUE(fs::exists(data + "/liger.db"));
  EXPECT_TRUE(moved().empty()) << "nothing moves without a backup";
  outcome = set_aside(out);
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_TRUE(fs::exists(data + "/liger.db"));
  ASSERT_EQ(moved().size(), 1u);
  EXPECT_TRUE(fs::exists(moved()[0] / "liger.db"));
  fs::remove_all(moved()[0]);

  // Bytes of a page in the middle are others now.
  std::string bytes = ReadFile(out + "/liger.db").value();
  for (size_t i = bytes.size() / 2; i < bytes.size(); ++i) bytes[i] ^= 0x5a;
  ASSERT_TRUE(WriteFileAtomically(out + "/liger.db", bytes).ok());
  outcome = RunCoordinator(
      cluster, absl::StrCat("restore --from ", out, " --data-dir ", cluster.dir(), "/outputs/new"));
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("damaged"));
  EXPECT_FALSE(fs::exists(cluster.dir() + "/outputs/new"));
}

}  // namespace
}  // namespace liger::e2e
