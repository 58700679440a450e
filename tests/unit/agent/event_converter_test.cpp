#include "worker/agent/event_converter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/steady_time.h"

namespace liger::agent {
namespace {

using testing::IsEmpty;
using testing::SizeIs;
using trainer::v1::Event;

class EventConverterTest : public testing::Test {
 protected:
  Event Make(int rank = 0) {
    Event event;
    event.set_seq(++seq_);
    event.set_rank(rank);
    return event;
  }
  Event Step(int64_t step, int rank = 0) {
    Event event = Make(rank);
    event.mutable_step()->set_step(step);
    return event;
  }
  absl::Time At(double seconds) const { return start_ + absl::Seconds(seconds); }

  int64_t seq_ = 0;
  const absl::Time start_ = SteadyNow();
  EventConverter converter_{0};
};

TEST_F(EventConverterTest, SendsTheLatestStepOnceASecond) {
  EXPECT_THAT(converter_.Convert(Step(1), At(0)), IsEmpty());
  auto first = converter_.DueProgress(At(0));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->event.progress().step().step(), 1);
  for (int i = 2; i <= 9; ++i) converter_.Convert(Step(i), At(0.1 * i));
  EXPECT_FALSE(converter_.DueProgress(At(0.99)));
  auto second = converter_.DueProgress(At(1.0));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->event.progress().step().step(), 9);
  EXPECT_EQ(second->source_seq, 9);
  EXPECT_FALSE(converter_.DueProgress(At(5))) << "nothing new";
}

TEST_F(EventConverterTest, KeepsTheOrderOfAStepAndWhatFollowsIt) {
  converter_.Convert(Step(1), At(0));
  converter_.DueProgress(At(0));
  converter_.Convert(Step(2), At(0.1));
  Event phase = Make();
  phase.mutable_phase()->set_phase(trainer::v1::PHASE_SAVING);
  const auto events = converter_.Convert(phase, At(0.2));
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[0].event.progress().step().step(), 2);
  EXPECT_TRUE(events[1].event.has_phase());
  EXPECT_LT(events[0].source_seq, events[1].source_seq);
}

TEST_F(EventConverterTest, OtherRanksSpeakOnlyForThemselves) {
  Event ready = Make(1);
  ready.mutable_ready();
  EXPECT_THAT(converter_.Convert(ready, At(0)), IsEmpty());
  EXPECT_THAT(converter_.Convert(Step(1, 1), At(0)), IsEmpty());
  EXPECT_FALSE(converter_.DueProgress(At(9)));
  Event warning = Make(1);
  warning.mutable_warning()->set_code("SLOW");
  EXPECT_THAT(converter_.Convert(warning, At(0)), SizeIs(1));
}

TEST_F(EventConverterTest, ReportsPhaseStepPeakAndAge) {
  Event memory = Make();
  memory.mutable_memory()->set_kind("rss");
  memory.mutable_memory()->set_peak_bytes(500);
  converter_.Convert(memory, At(0));
  memory.mutable_memory()->set_peak_bytes(400);
  converter_.Convert(memory, At(0));
  Event alive = Make();
  alive.mutable_alive()->set_phase(trainer::v1::PHASE_TRAINING);
  alive.mutable_alive()->set_step(3);
  converter_.Convert(alive, At(1));
  converter_.Convert(alive, At(2));  // alive, but no further
  const auto status = converter_.Status(At(4));
  EXPECT_EQ(status.phase(), trainer::v1::PHASE_TRAINING);
  EXPECT_EQ(status.step(), 3);
  EXPECT_EQ(status.peak_bytes(), 500);
  EXPECT_NEAR(status.last_progress_age_seconds(), 3, 1e-6);
  alive.mutable_alive()->set_progress(1);  // a micro-batch of the step
  converter_.Convert(alive, At(3));
  EXPECT_NEAR(converter_.Status(At(4)).last_progress_age_seconds(), 1, 1e-6);
  converter_.Convert(Step(4), At(5));
  EXPECT_EQ(converter_.DueProgress(At(5))->event.progress().peak_memory_bytes().at("rss"), 500);
}

TEST_F(EventConverterTest, TellsWhatWasPredictedBesideThePeaks) {
  for (const int64_t peak : {100, 500}) {
    Event memory = Make();
    memory.mutable_memory()->set_kind("allocated");
    memory.mutable_memory()->set_peak_bytes(peak);
    memory.mutable_memory()->set_predicted_bytes(600);
    converter_.Convert(memory, At(1));
    memory.mutable_memory()->set_kind("reserved");
    memory.mutable_memory()->clear_predicted_bytes();
    converter_.Convert(memory, At(1));
  }
  converter_.Convert(Step(1), At(1));
  const auto progress = converter_.DueProgress(At(1))->event.progress();
  EXPECT_EQ(progress.peak_memory_bytes().at("allocated"), 500);
  EXPECT_EQ(progress.predicted_memory_bytes().at("allocated"), 600);
  EXPECT_FALSE(progress.predicted_memory_bytes().contains("reserved"));
}

TEST_F(EventConverterTest, BoundsWhatACheckFound) {
  Event event = Make();
  for (int i = 0; i < 1000; ++i) {
    event.mutable_check_result()->add_violations()->set_line(i);
    event.mutable_check_result()->add_warnings()->set_message("of a source");
  }
  const auto events = converter_.Convert(event, At(0));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].event.check_result().violations_size(), 200);
  EXPECT_EQ(events[0].event.check_result().stats().at("violations_not_shown"), 800);
  EXPECT_EQ(events[0].event.check_result().warnings_size(), 100);
  EXPECT_EQ(events[0].event.check_result().stats().at("warnings_not_shown"), 900);
}

TEST_F(EventConverterTest, TellsOfEachRankOfAGang) {
  EventConverter lead(0, /*gang=*/true);
  const auto memory = [this](int rank, int64_t bytes) {
    Event event = Make(rank);
    event.mutable_memory()->set_kind("rss");
    event.mutable_memory()->set_peak_bytes(bytes);
    return event;
  };
  lead.Convert(memory(0, 100), At(0));
  lead.Convert(memory(1, 300), At(0));
  lead.Convert(Step(1), At(1));
  const auto progress = lead.DueProgress(At(1))->event.progress();
  ASSERT_THAT(progress.ranks(), SizeIs(2));
  EXPECT_EQ(progress.ranks(1).peak_memory_bytes().at("rss"), 300);
  EXPECT_EQ(progress.peak_memory_bytes().at("rss"), 300);

  // A worker without rank 0 has no steps, and does not speak for the task.
  EventConverter other(2, /*gang=*/true);
  Event ready = Make(2);
  ready.mutable_ready()->set_device("cpu");
  EXPECT_THAT(other.Convert(ready, At(0)), SizeIs(1));
  Event phase = Make(2);
  phase.mutable_phase()->set_phase(trainer::v1::PHASE_TRAINING);
  EXPECT_THAT(other.Convert(phase, At(0)), IsEmpty());
  other.Convert(memory(3, 400), At(0));
  const auto ranks = other.DueProgress(At(0));
  ASSERT_TRUE(ranks.has_value());
  EXPECT_FALSE(ranks->event.progress().has_step());
  EXPECT_EQ(ranks->event.progress().ranks(0).rank(), 3);
  EXPECT_FALSE(other.DueProgress(At(5)).has_value()) << "nothing new";
}

}  // namespace
}  // namespace liger::agent
