#include "worker/trainer/loop/events.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "common/framing.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

using Event = liger::trainer::v1::Event;

std::vector<Event> ReadEvents(const std::string& path) {
  FrameReader reader;
  reader.Append(ReadAll(path));
  std::vector<Event> events;
  std::string payload;
  while (reader.Next(&payload) == FrameReader::Result::kFrame) {
    events.emplace_back();
    EXPECT_TRUE(events.back().ParseFromString(payload));
  }
  EXPECT_EQ(reader.pending(), 0u);
  return events;
}

class EventFileTest : public testing::Test {
 protected:
  void SetUp() override {
    fd_ = open(path_.c_str(), O_CREAT | O_RDWR | O_APPEND, 0600);
    ASSERT_GE(fd_, 0);
  }
  void TearDown() override { close(fd_); }

  TinyJob folder_;
  std::string path_ = folder_.Path("events");
  int fd_ = -1;
};

TEST_F(EventFileTest, NumbersFromOneWithoutGapsFromManyThreads) {
  EventFile file(fd_, /*rank=*/3);
  Reporter reporter({&file});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&reporter] {
      for (int j = 0; j < 50; ++j) reporter.Alive();
    });
  }
  for (auto& thread : threads) thread.join();
  const auto events = ReadEvents(path_);
  ASSERT_EQ(events.size(), 200u);
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].seq(), int64_t(i) + 1);
    EXPECT_EQ(events[i].rank(), 3);
    EXPECT_GE(events[i].monotonic_ns(), events[i == 0 ? 0 : i - 1].monotonic_ns());
  }
}

TEST_F(EventFileTest, ALostEventTakesNoNumber) {
  EventFile file(fd_, 0);
  Reporter reporter({&file});
  EXPECT_TRUE(reporter.Done());
  const int read_only = open(path_.c_str(), O_RDONLY);
  EventFile broken(read_only, 0);
  EXPECT_FALSE(Reporter({&broken}).Done()) << "a write that fails must be seen";
  close(read_only);
  EXPECT_TRUE(reporter.Done());
  const auto events = ReadEvents(path_);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].seq(), 2);
}

TEST_F(EventFileTest, AMessageThatQuotesAnotherEncodingStaysReadable) {
  EventFile file(fd_, 0);
  Reporter reporter({&file});
  liger::v1::Failure failure;
  failure.set_message("row 17: last read: '\"caf\xE9'");
  EXPECT_TRUE(reporter.Failed(failure));
  const auto events = ReadEvents(path_);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].failed().message(), "row 17: last read: '\"caf\xEF\xBF\xBD'");
}

class AliveSink : public EventSink {
 public:
  bool Emit(Event event) override {
    events.push_back(event.alive());
    return true;
  }
  std::vector<liger::trainer::v1::Alive> events;
};

TEST(ReporterTest, AliveTellsOfASlowCallWhichIsProgressAtBothEnds) {
  AliveSink sink;
  Reporter reporter({&sink});
  reporter.Alive();
  {
    const SlowCall sync;
    reporter.Alive();
  }
  reporter.Alive();
  ASSERT_EQ(sink.events.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(sink.events[i].in_slow_call(), i == 1) << i;
  EXPECT_LT(sink.events[0].progress(), sink.events[1].progress());
  EXPECT_LT(sink.events[1].progress(), sink.events[2].progress());
}

TEST(ReporterTest, PhaseIsToldOnce) {
  RecordingSink sink;
  Reporter reporter({&sink});
  reporter.EnterPhase(liger::trainer::v1::PHASE_TRAINING);
  reporter.EnterPhase(liger::trainer::v1::PHASE_TRAINING);
  reporter.EnterPhase(liger::trainer::v1::PHASE_SAVING);
  EXPECT_EQ(sink.All(Event::kPhase).size(), 2u);
}

TEST(ReporterTest, MemoryIsToldWhenItGrows) {
  RecordingSink sink;
  Reporter reporter({&sink});
  reporter.Memory({{"rss", 1000}});
  reporter.Memory({{"rss", 1005}});
  reporter.Memory({{"rss", 2000}});
  ASSERT_EQ(sink.All(Event::kMemory).size(), 2u);
  EXPECT_EQ(sink.Last(Event::kMemory).memory().peak_bytes(), 2000);
}

TEST(ReporterTest, MemoryGoesWithItsPrediction) {
  RecordingSink sink;
  Reporter reporter({&sink});
  reporter.Predict("allocated", 3000);
  reporter.Memory({{"allocated", 2000}, {"reserved", 4000}});
  for (const Event& event : sink.All(Event::kMemory)) {
    EXPECT_EQ(event.memory().predicted_bytes(), event.memory().kind() == "allocated" ? 3000 : 0);
  }
  EXPECT_EQ(sink.All(Event::kMemory).size(), 2u);
}

TEST_F(EventFileTest, HeartbeatTellsPhaseAndStep) {
  EventFile file(fd_, 0);
  Reporter reporter({&file});
  liger::trainer::v1::Step step;
  step.set_step(7);
  reporter.EnterPhase(liger::trainer::v1::PHASE_EVALUATING);
  reporter.Step(step);
  {
    Heartbeat heartbeat(reporter, absl::Milliseconds(5));
    absl::SleepFor(absl::Milliseconds(100));
  }
  const auto events = ReadEvents(path_);
  ASSERT_GT(events.size(), 4u);
  EXPECT_EQ(events.back().alive().step(), 7);
  EXPECT_EQ(events.back().alive().phase(), liger::trainer::v1::PHASE_EVALUATING);
}

}  // namespace
}  // namespace liger::trainer
