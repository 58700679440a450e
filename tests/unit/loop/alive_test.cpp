// The heartbeat of a job that trains: it counts the work, and not itself.
#include <gtest/gtest.h>

#include "absl/synchronization/mutex.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/run_task.h"

namespace liger::trainer {
namespace {

using Event = liger::trainer::v1::Event;

// Asks for an Alive when the kernels of the first step are told, and keeps its step.
struct AliveSink : EventSink {
  bool Emit(Event event) override {
    if (event.has_ready() && event.ready().kernels_ran_size() > 0) reporter->Alive();
    if (event.has_alive()) step_at_ready = event.alive().step();
    return true;
  }
  Reporter* reporter = nullptr;
  int64_t step_at_ready = -1;
};

// Holds the training thread up in its step 2, as a deadlock would, and keeps
// what Alive counts before, during and after it.
struct StuckSink : EventSink {
  bool Emit(Event event) override {
    if (event.has_alive()) {
      absl::MutexLock lock(&mutex);
      (stuck ? while_stuck : while_running).push_back(event.alive().progress());
      return true;
    }
    if (!event.has_step() || event.step().step() != 2) return true;
    absl::MutexLock lock(&mutex);
    stuck = true;
    mutex.Await(absl::Condition(
        +[](std::vector<int64_t>* counts) { return counts->size() >= 5; }, &while_stuck));
    stuck = false;
    return true;
  }
  absl::Mutex mutex;
  bool stuck = false;
  std::vector<int64_t> while_running, while_stuck;
};

// The heartbeat tells of steps that are not logged too.
TEST(AliveTest, FollowsEveryStep) {
  const TinyJob job;
  Request request = job.Sft();
  auto* training = request.launch.mutable_resolved_spec()->mutable_training();
  training->set_logging_steps(1000);
  training->set_max_steps(3);
  AliveSink sink;
  Reporter reporter({&sink});
  sink.reporter = &reporter;
  StopFlag stop;
  ASSERT_EQ(RunTask(request, reporter, stop), kExitOk);
  EXPECT_EQ(sink.step_at_ready, 1);
}

TEST(AliveTest, CountsTheWorkAndNotItself) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_training()->set_logging_steps(1);
  StuckSink sink;
  Reporter reporter({&sink});
  StopFlag stop;
  {
    Heartbeat heartbeat(reporter, absl::Milliseconds(5));
    ASSERT_EQ(RunTask(request, reporter, stop), kExitOk);
  }
  reporter.Alive();
  ASSERT_GE(sink.while_stuck.size(), 5u);
  EXPECT_EQ(sink.while_stuck.front(), sink.while_stuck.back()) << "the thread lives, the work not";
  ASSERT_GE(sink.while_running.size(), 2u);
  EXPECT_LT(sink.while_running.front(), sink.while_stuck.front());
  EXPECT_LT(sink.while_stuck.back(), sink.while_running.back());
}

}  // namespace
}  // namespace liger::trainer
