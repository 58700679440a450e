// The verbs that follow a job, over what can come between.
#include <gmock/gmock.h>

#include <thread>

#include "absl/time/clock.h"
#include "tests/unit/client/verbs_fixture.h"

namespace liger::client {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(VerbsTest, ExitCodesTellHowAJobEnded) {
  const std::pair<JobStatus::State, int> cases[] = {
      {JobStatus::SUCCEEDED, 0}, {JobStatus::FAILED, 5}, {JobStatus::CANCELLED, 2}};
  for (const auto& [state, code] : cases) {
    EndWith(state);
    const Result result = Run("submit --model tiny --trainer orpo --wait");
    EXPECT_EQ(result.code, code) << result.text;
    EXPECT_THAT(result.text, HasSubstr("output:    /out/j1"));
  }
}

TEST_F(VerbsTest, WatchResumesFromItsRevisionAndIsPlainInAPipe) {
  const Result result = Run("watch j1");
  EXPECT_EQ(result.code, 0) << result.text;
  EXPECT_THAT(result.text, HasSubstr("3/10  loss 1.5"));
  EXPECT_THAT(result.text, Not(HasSubstr("\033")));
  absl::MutexLock lock(&service_.mutex);
  EXPECT_EQ(service_.watches, 2);
  EXPECT_EQ(service_.resumed_from, 7);
}

TEST_F(VerbsTest, FollowersWaitForACoordinatorThatIsAwayFromTheStart) {
  Stop();
  for (const std::string verb : {"watch j1", "logs -f j1"}) {
    {
      absl::MutexLock lock(&service_.mutex);
      service_.watches = service_.tails = 1;  // the streams do not break
    }
    Result result;
    std::thread follower([&] { result = Run(verb); });
    absl::SleepFor(absl::Seconds(1));
    Serve();
    follower.join();
    EXPECT_EQ(result.code, 0) << result.text;
    EXPECT_THAT(result.text, testing::StartsWith("no coordinator answers at 127.0.0.1:" +
                                                 std::to_string(port_) + ": trying again for 2m"));
    Stop();
  }
}

// As gRPC's server answers calls that come while it shuts down.
TEST_F(VerbsTest, FollowersGoOnOverABareCancelled) {
  {
    absl::MutexLock lock(&service_.mutex);
    service_.restart_code = grpc::StatusCode::CANCELLED;
  }
  const Result watched = Run("watch j1");
  EXPECT_EQ(watched.code, 0) << watched.text;
  EXPECT_EQ(Run("logs -f j1").text, "one two three\n");
  {
    absl::MutexLock lock(&service_.mutex);
    service_.tails = 0;
  }
  const Result broken = Run("logs j1");
  EXPECT_EQ(broken.code, 1) << "2 is for jobs that were cancelled";
  EXPECT_THAT(broken.text, HasSubstr("no coordinator answers at "));
}

TEST_F(VerbsTest, WatchBeginsAgainWhenTheStoreWasRestored) {
  {
    absl::MutexLock lock(&service_.mutex);
    service_.restored = true;
  }
  const Result result = Run("watch j1");
  EXPECT_EQ(result.code, 0) << result.text;
  absl::MutexLock lock(&service_.mutex);
  EXPECT_EQ(service_.watches, 3);
  EXPECT_EQ(service_.resumed_from, 0);
}

TEST_F(VerbsTest, LogsGoOnBehindWhatIsPrinted) {
  EXPECT_EQ(Run("logs -f j1").text, "one two three\n");
  {
    absl::MutexLock lock(&service_.mutex);
    EXPECT_EQ(service_.tails, 2);
    service_.tails = 0;
  }
  EXPECT_EQ(Run("logs j1").code, 1) << "without -f there is nothing to resume";
}

TEST_F(VerbsTest, WaitTimesOutWith6AndCtrlCDetaches) {
  EndWith(JobStatus::RUNNING);
  EXPECT_EQ(Run("watch j1 --timeout 1").code, 6);
  const Result interrupted = Run("watch j1", "timeout -s INT 1");
  EXPECT_THAT(interrupted.text, HasSubstr("detached; the job goes on"));
}

TEST_F(VerbsTest, WaitingForAProgramLeavesStandardOutputToTheResult) {
  const Result result =
      Run("submit --model tiny --trainer orpo --wait -o json", "", " 2>/dev/null");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, testing::StartsWith("{"));
  EXPECT_THAT(result.text, HasSubstr("\"state\": \"SUCCEEDED\""));
  EXPECT_THAT(result.text, Not(HasSubstr("3/10")));
  EXPECT_THAT(Run("watch j1 -o name", "", " 2>/dev/null").text, "j1\n");
}

TEST_F(VerbsTest, PauseWaitsUntilTheDevicesAreFree) {
  EXPECT_EQ(Run("pause j1").text, "j1: PAUSING\n");
  EXPECT_EQ(Run("pause j1 -o name").text, "j1\n");
  EndWith(JobStatus::PAUSED);
  const Result paused = Run("pause j1 --wait");
  EXPECT_EQ(paused.code, 0);
  EXPECT_THAT(paused.text, testing::EndsWith("PAUSED\n"));
  EXPECT_THAT(Run("pause j1 --wait -o json", "", " 2>/dev/null").text,
              HasSubstr("\"state\": \"PAUSED\""));
  EndWith(JobStatus::SUCCEEDED);
  const Result done = Run("pause j1 --wait");
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.text, HasSubstr("j1 is not paused: it is SUCCEEDED"));
  EndWith(JobStatus::FAILED);
  EXPECT_EQ(Run("pause j1 --wait").code, 5);
  const Result over = Run("pause over");
  EXPECT_EQ(over.code, 3);
  EXPECT_THAT(over.text, HasSubstr("cannot be paused: it has ended (SUCCEEDED)"));
  EXPECT_EQ(Run("resume j1").text, "j1: QUEUED\n");
  EXPECT_EQ(Run("resume j1 --wait").code, 5) << "it is followed to its end";
}

}  // namespace
}  // namespace liger::client
