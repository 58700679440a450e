// What only a store on disk promises: it survives its process.

#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "common/file.h"
#include "gmock/gmock.h"
#include "server/store/backup.h"
#include "tests/unit/store/store_testing.h"

namespace liger::server::testing {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Store> Open(const std::string& folder, const StoreOptions& options = {}) {
  auto store = OpenSqliteStore(folder, options);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

TEST(SqliteStore, EverythingIsThereAfterReopening) {
  TempFolder folder;
  std::string before;
  int64_t term = 0;
  std::string cluster;
  {
    auto store = Open(folder.path());
    Driver driver(store.get());
    driver.Do(ReconcileWorker{NewHello("w1", 1, 2)});
    const int64_t epoch = driver.RunJob("u", "w1");
    driver.PublishModel("u", "w1", epoch, 2);
    before = driver.Job("u").SerializeAsString();
    term = store->term();
    cluster = store->cluster_id();
  }
  auto store = Open(folder.path());
  Driver driver(store.get());
  EXPECT_EQ(driver.Job("u").SerializeAsString(), before);
  EXPECT_EQ(driver.Occupied("w1"), 1);
  EXPECT_EQ(store->term(), term + 1);
  EXPECT_EQ(store->cluster_id(), cluster);
  // Acknowledgements survive as well: event 2 is known, event 3 is next.
  EXPECT_EQ(driver.Exit("u", "w1", 1, 3, Succeeded()).acked_seq, 3);
  EXPECT_EQ(driver.State("u"), liger::v1::JobStatus::SUCCEEDED);
}

TEST(SqliteStore, ARestoredStoreNeverReissuesAnEpoch) {
  TempFolder folder;
  {
    auto store = Open(folder.path());
    Driver driver(store.get());
    driver.Do(ReconcileWorker{NewHello("w1", 1, 1)});
    EXPECT_EQ(driver.RunJob("u", "w1"), 1);
    driver.Do(LoseWorker{"w1", 1});
    driver.Do(ReconcileWorker{NewHello("w2", 1, 1)});
  }
  auto store = Open(folder.path(), {.raise_generation = true});
  EXPECT_GE(store->generation(), 1);
  EXPECT_GT(store->term(), 1000000) << "above the terms that were handed out after the backup";
  Driver driver(store.get());
  EXPECT_EQ(driver.Place("u", "w2"), (store->generation() << 32) + 2);
}

TEST(SqliteStore, AnAttemptThatIsOlderThanTheBackupIsRunAgain) {
  TempFolder folder;
  {
    auto store = Open(folder.path());
    Driver driver(store.get());
    driver.Do(ReconcileWorker{NewHello("w1", 1, 1)});
    driver.RunJob("u", "w1");
  }
  auto store = Open(folder.path(), {.raise_generation = true});
  Driver driver(store.get());
  // The worker goes on with it; what it reported meanwhile is not known here.
  liger::worker::v1::Hello hello = NewHello("w1", 1, 1);
  Own(&hello, "u", 1, "train", /*running=*/true, /*last_event_seq=*/50);
  const ReconcileWorker::Result result = driver.Do(ReconcileWorker{hello, 2});
  ASSERT_EQ(result.verdicts.size(), 1u);
  EXPECT_EQ(result.verdicts[0].action(), liger::worker::v1::Verdict::STOP);
  EXPECT_EQ(driver.State("u"), liger::v1::JobStatus::RECOVERING);
  EXPECT_EQ(driver.Occupied("w1"), 1) << "until its exit";
}

TEST(SqliteStore, ABackupOfAnOpenStoreRaisesTheGenerationOnce) {
  TempFolder folder, copy;
  auto store = Open(folder.path());
  Driver driver(store.get());
  driver.Submit("u");
  ASSERT_TRUE(MakeFolders(copy.path()).ok());
  const std::string file = copy.path() + "/liger.db";
  ASSERT_EQ(BackUpDatabase(folder.path(), file), absl::OkStatus());
  const std::string backed_up = driver.Job("u").SerializeAsString();
  driver.Do(ReconcileWorker{NewHello("w1", 1, 1)});
  driver.PassCheck("u", "w1");  // of which the backup does not know

  EXPECT_EQ(CheckDatabase(file), absl::OkStatus());
  auto restored = Open(copy.path());
  EXPECT_GT(restored->generation(), store->generation());
  EXPECT_GT(restored->term(), store->term());
  EXPECT_EQ(restored->cluster_id(), store->cluster_id());
  EXPECT_EQ(Driver(restored.get()).Job("u").SerializeAsString(), backed_up);
  const int64_t generation = restored->generation();
  restored.reset();
  EXPECT_EQ(Open(copy.path())->generation(), generation);
}

TEST(SqliteStore, WhatIsNoDatabaseIsNotBackedUp) {
  TempFolder folder, copy;
  ASSERT_TRUE(MakeFolders(folder.path()).ok());
  ASSERT_TRUE(MakeFolders(copy.path()).ok());
  const std::string to = copy.path() + "/liger.db";
  EXPECT_EQ(BackUpDatabase(folder.path(), to).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteFileAtomically(folder.path() + "/liger.db", "not a database, but bytes").ok());
  EXPECT_EQ(BackUpDatabase(folder.path(), to).code(), absl::StatusCode::kDataLoss);
}

TEST(SqliteStore, OneCoordinatorAtATime) {
  TempFolder folder;
  auto store = Open(folder.path());
  const auto second = OpenSqliteStore(folder.path(), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(second.status().message(), HasSubstr(folder.path()));
  EXPECT_THAT(second.status().message(), HasSubstr(std::to_string(getpid())));
  store.reset();
  EXPECT_TRUE(OpenSqliteStore(folder.path(), {}).ok());
}

void ExecuteSql(const std::string& folder, const char* sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((folder + "/liger.db").c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
  sqlite3_close(db);
}

// A folder of schema 1, as the first version left it, with a job in it.
void MakeSchemaOne(const std::string& folder) {
  {
    auto store = Open(folder);
    Driver(store.get()).Submit("old");
  }
  ExecuteSql(folder,
             "DROP INDEX jobs_by_output; DROP INDEX jobs_by_end; DROP TABLE reclaims;"
             "DROP TABLE environments; DROP TABLE experiments; DROP TABLE results;"
             "DROP INDEX jobs_alive_by_state; ALTER TABLE jobs DROP COLUMN output;"
             "ALTER TABLE members DROP COLUMN exit_state;"
             "ALTER TABLE members DROP COLUMN exit_retry;"
             "ALTER TABLE members DROP COLUMN exit_free;"
             "ALTER TABLE members DROP COLUMN exit_failure;"
             "ALTER TABLE members DROP COLUMN exit_time;"
             "ALTER TABLE artifacts DROP COLUMN damage;"
             "ALTER TABLE artifacts DROP COLUMN visible;"
             "ALTER TABLE artifacts DROP COLUMN best;"
             "UPDATE meta SET value = '1' WHERE key = 'schema_version'");
}

TEST(SqliteStore, AnOlderSchemaIsBroughtUp) {
  TempFolder folder;
  MakeSchemaOne(folder.path());
  auto store = Open(folder.path());
  Driver driver(store.get());
  EXPECT_EQ(driver.Job("old").name(), "job-old");
  EXPECT_TRUE(driver.Job("old").has_resolved_spec());
  driver.Do(ReconcileWorker{NewHello("w1", 1, 1)});
  driver.PassCheck("old", "w1");
  EXPECT_EQ(driver.Place("old", "w1"), 1) << "old rows are written as new ones";
  driver.Submit("new");
  CreateExperiment experiment;
  experiment.row.uid = "e";
  experiment.row.name = "grid";
  EXPECT_FALSE(driver.Do(experiment).existed) << "what came with schema 3 is there, too";
  store.reset();
  EXPECT_NE(Open(folder.path()), nullptr) << "once";
}

// What was granted before the store knew more of it.
TEST(SqliteStore, ArtifactsOfAnOlderSchemaAreThere) {
  TempFolder folder;
  {
    auto store = Open(folder.path());
    Driver driver(store.get());
    liger::worker::v1::Hello hello = NewHello("w1", 1, 1);
    hello.set_tells_publications(true);
    driver.Do(ReconcileWorker{hello});
    driver.PublishModel("u", "w1", driver.RunJob("u", "w1"), 2);
  }
  const auto visible = [](Store* store) {
    return Driver(store).Read<bool>(
        [](const ReadView& view) { return view.Artifacts("default", "u").at(0).visible; });
  };
  EXPECT_FALSE(visible(Open(folder.path()).get()));
  ExecuteSql(folder.path(),
             "ALTER TABLE artifacts DROP COLUMN visible; ALTER TABLE artifacts DROP COLUMN best;"
             "UPDATE meta SET value = '7' WHERE key = 'schema_version'");
  EXPECT_TRUE(visible(Open(folder.path()).get()));
}

TEST(SqliteStore, ANewerSchemaIsRefused) {
  TempFolder folder;
  Open(folder.path()).reset();
  ExecuteSql(folder.path(), "UPDATE meta SET value = '999' WHERE key = 'schema_version'");
  const auto store = OpenSqliteStore(folder.path(), {});
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(store.status().message(), HasSubstr("newer"));
}

TEST(SqliteStore, ADamagedRowIsAnErrorNotAWrongAnswer) {
  TempFolder folder;
  {
    auto store = Open(folder.path());
    Driver(store.get()).Submit("u");
  }
  ExecuteSql(folder.path(), "UPDATE jobs SET status = x'ffffffff'");
  auto store = Open(folder.path());
  const auto read = store->ReadAndWait<int>([](const ReadView& view) -> absl::StatusOr<int> {
    view.Job("u");
    return 1;
  });
  EXPECT_EQ(read.status().code(), absl::StatusCode::kDataLoss);
  const auto applied = store->ApplyAndWait<CancelJob>(1, "test", {"default", "u", ""});
  EXPECT_EQ(applied.status().code(), absl::StatusCode::kDataLoss);
}

TEST(SqliteStore, ReadsDoNotWaitForASlowCommit) {
  TempFolder folder;
  auto store = Open(folder.path(), {.commit_delay = std::chrono::milliseconds(200)});
  std::promise<void> committed;
  const auto start = std::chrono::steady_clock::now();
  store->Apply<CreateJob>(1, "test", NewJob("u", "slow"),
                          [&](absl::StatusOr<CreateJob::Result>) { committed.set_value(); });
  const auto seen = store->ReadAndWait<bool>(
      [](const ReadView& view) -> absl::StatusOr<bool> { return view.Job("u").has_value(); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(190));
  ASSERT_TRUE(seen.ok());
  EXPECT_FALSE(*seen) << "not committed yet";
  committed.get_future().wait();
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(200));
}

TEST(SqliteStore, QueuedCommandsShareACommit) {
  TempFolder folder;
  auto store = Open(folder.path(), {.commit_delay = std::chrono::milliseconds(100)});
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::future<bool>> done;
  for (int i = 0; i < 50; ++i) {
    auto promise = std::make_shared<std::promise<bool>>();
    done.push_back(promise->get_future());
    // Every tenth fails and must not take the others along.
    const std::string name = i % 10 == 9 ? "n0" : "n" + std::to_string(i);
    store->Apply<CreateJob>(
        i + 1, "test", NewJob("u" + std::to_string(i), name),
        [promise](absl::StatusOr<CreateJob::Result> result) { promise->set_value(result.ok()); });
  }
  int accepted = 0;
  for (auto& future : done) accepted += future.get();
  EXPECT_EQ(accepted, 45);
  // One by one it would be 5 s.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_EQ(
      Driver(store.get()).Read<size_t>([](const ReadView& v) { return v.ActiveJobs().size(); }),
      45u);
}

TEST(SqliteStore, TheListenerHearsOfCommitsInOrderBeforeTheCaller) {
  TempFolder folder;
  auto store = Open(folder.path());
  int64_t last = 0;
  size_t heard = 0;
  store->SetCommitListener([&](const std::vector<JobChange>& changes) {
    for (const JobChange& change : changes) {
      EXPECT_GT(change.revision, last);
      last = change.revision;
      ++heard;
    }
  });
  Driver driver(store.get());
  driver.Submit("u");
  EXPECT_EQ(heard, 1u);
  EXPECT_FALSE(driver.Try(NewJob("v", "job-u")).ok());
  EXPECT_EQ(heard, 1u) << "nothing happened";
  driver.Do(CancelJob{"default", "u"});
  EXPECT_EQ(heard, 2u);
}

// The child submits in a loop and says on a pipe what was acknowledged.
[[noreturn]] void SubmitForever(const std::string& folder, int round, int out) {
  auto store = OpenSqliteStore(folder, {});
  if (!store.ok()) _exit(3);
  for (int i = 0;; ++i) {
    const std::string uid = "r" + std::to_string(round) + "-" + std::to_string(i);
    CreateJob command = NewJob(uid, "job-" + uid);
    if (!(*store)->ApplyAndWait<CreateJob>(1000 + i, "test", command).ok()) _exit(4);
    const std::string line = uid + "\n";
    if (write(out, line.data(), line.size()) < 0) _exit(5);
  }
}

// I1: whatever was acknowledged before SIGKILL is there afterwards.
TEST(SqliteStore, NoAcknowledgedSubmitIsLostToSigkill) {
  TempFolder folder;
  size_t acknowledged = 0;
  for (int round = 0; round < 6; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe_fds[0]);
      SubmitForever(folder.path(), round, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    std::string acked;
    char buffer[4096];
    // Killed at another point of its work each time.
    const size_t enough = 40 + 97 * round;
    ssize_t n = 0;
    while (acked.size() < enough && (n = read(pipe_fds[0], buffer, sizeof buffer)) > 0) {
      acked.append(buffer, n);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(731 * round));
    kill(child, SIGKILL);
    while ((n = read(pipe_fds[0], buffer, sizeof buffer)) > 0) acked.append(buffer, n);
    close(pipe_fds[0]);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << WEXITSTATUS(status);

    auto store = Open(folder.path());
    Driver driver(store.get());
    size_t start = 0, end = 0;
    while ((end = acked.find('\n', start)) != std::string::npos) {
      const std::string uid = acked.substr(start, end - start);
      driver.Read<int>([&](const ReadView& view) {
        EXPECT_TRUE(view.Job(uid).has_value()) << uid;
        EXPECT_EQ(view.Events(uid, 0, 0).size(), 1u) << uid;
        return 0;
      });
      ++acknowledged;
      start = end + 1;
    }
  }
  EXPECT_GE(acknowledged, 20u);
}

}  // namespace
}  // namespace liger::server::testing
