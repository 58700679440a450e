#include "worker/agent/event_tail.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "worker/agent/ship_source.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

std::string Frame(int64_t seq, int64_t step = 0) {
  trainer::v1::Event event;
  event.set_seq(seq);
  if (step > 0) event.mutable_step()->set_step(step);
  return EncodeFrame(event.SerializeAsString());
}

class EventTailTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "tail-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::string path() const { return dir_ + "/events"; }
  void Append(const std::string& bytes) {
    std::ofstream(path(), std::ios::app | std::ios::binary) << bytes;
  }

  std::string dir_;
};

TEST_F(EventTailTest, FollowsAFileThatIsNotThereYet) {
  EventTail tail(path());
  EXPECT_TRUE(tail.Read()->empty());
  EXPECT_TRUE(tail.at_end());
  Append(Frame(1) + Frame(2));
  EXPECT_EQ(tail.Read()->size(), 2u);
  EXPECT_TRUE(tail.Read()->empty());
}

TEST_F(EventTailTest, WaitsForTheRestOfAFrame) {
  EventTail tail(path());
  const std::string frame = Frame(1, 77);
  for (char byte : frame.substr(0, frame.size() - 1)) {
    Append(std::string(1, byte));
    EXPECT_TRUE(tail.Read()->empty());
  }
  EXPECT_GT(tail.torn_bytes(), 0u);
  Append(frame.substr(frame.size() - 1));
  const auto events = tail.Read();
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ((*events)[0].step().step(), 77);
  EXPECT_EQ(tail.torn_bytes(), 0u);
}

TEST_F(EventTailTest, TrustsNothingBehindACorruptFrame) {
  std::string broken = Frame(2, 5);
  broken.back() ^= 1;
  Append(Frame(1) + broken + Frame(3));
  EventTail tail(path());
  EXPECT_EQ(tail.Read()->size(), 1u) << "what came before still counts";
  EXPECT_TRUE(absl::IsDataLoss(tail.Read().status()));
  Append(Frame(4));
  EXPECT_TRUE(absl::IsDataLoss(tail.Read().status()));
}

TEST_F(EventTailTest, SkipsAWholeFrameThatIsNoEvent) {
  trainer::v1::Event latin1;
  latin1.mutable_failed()->set_message("row 17: caf\xE9");
  Append(Frame(1) + EncodeFrame(latin1.SerializeAsString()) + Frame(3));
  EventTail tail(path());
  const auto events = tail.Read();
  ASSERT_TRUE(events.ok());
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ((*events)[1].seq(), 3);
}

TEST_F(EventTailTest, ReadsALongFileInPieces) {
  std::string all;
  for (int i = 1; i <= 20000; ++i) all += Frame(i, i);
  Append(all);
  EventTail tail(path());
  int64_t seq = 0;
  do {
    const auto events = tail.Read(64 << 10);
    for (const auto& event : *events) EXPECT_EQ(event.seq(), ++seq);
  } while (!tail.at_end());
  EXPECT_EQ(seq, 20000);
}

// ---- ShipSource

class ShipSourceTest : public EventTailTest {
 protected:
  void Log(const std::string& bytes) {
    std::ofstream(dir_ + "/log", std::ios::app | std::ios::binary) << bytes;
  }
  worker::v1::ChunkAck Ack(int64_t log_offset, int64_t through_step) {
    worker::v1::ChunkAck ack;
    ack.set_log_offset(log_offset);
    ack.set_through_step(through_step);
    return ack;
  }
};

TEST_F(ShipSourceTest, AsksFirstAndGoesOnWhereItIsTold) {
  Log("0123456789");
  for (int i = 1; i <= 5; ++i) Append(Frame(i, i));
  ShipSource source(trainer::v1::Ref(), 0, dir_ + "/log", path());
  EXPECT_TRUE(source.Next()->has_resume());
  EXPECT_FALSE(source.Next()) << "the answer is out";
  source.Acknowledged(Ack(4, 3));
  auto metrics = source.Next();
  ASSERT_EQ(metrics->metrics().samples_size(), 2);
  EXPECT_EQ(metrics->metrics().samples(0).step().step(), 4);
  auto log = source.Next();
  EXPECT_EQ(log->log().offset(), 4);
  EXPECT_EQ(log->log().data(), "456789");
  EXPECT_FALSE(source.Next());
}

TEST_F(ShipSourceTest, SendsAgainWhatANewStreamDoesNotKnow) {
  Log("abc");
  Append(Frame(1, 1));
  ShipSource source(trainer::v1::Ref(), 0, dir_ + "/log", path());
  source.Next();
  source.Acknowledged(Ack(0, 0));
  while (source.Next()) {
  }
  source.Restart();
  EXPECT_TRUE(source.Next()->has_resume());
  source.Acknowledged(Ack(0, 0));
  EXPECT_EQ(source.Next()->metrics().samples_size(), 1);
  EXPECT_EQ(source.Next()->log().data(), "abc");
}

TEST_F(ShipSourceTest, KeepsAMegabyteInFlightAtMost) {
  Log(std::string(3 << 20, 'x'));
  ShipSource source(trainer::v1::Ref(), 0, dir_ + "/log", path());
  source.Next();
  source.Acknowledged(Ack(0, 0));
  int64_t sent = 0;
  while (auto chunk = source.Next()) sent += static_cast<int64_t>(chunk->log().data().size());
  EXPECT_EQ(sent, 1 << 20);
  source.Acknowledged(Ack(100 << 10, 0));
  EXPECT_TRUE(source.Next());
}

TEST_F(ShipSourceTest, IsDrainedWhenEverythingIsAcknowledgedAndNothingComes) {
  Log("abc");
  Append(Frame(1, 1));
  ShipSource source(trainer::v1::Ref(), 0, dir_ + "/log", path());
  source.Next();
  source.Acknowledged(Ack(0, 0));
  source.Finish();
  EXPECT_FALSE(source.Drained());
  source.Acknowledged(Ack(3, 0));
  EXPECT_FALSE(source.Drained());
  source.Acknowledged(Ack(3, 1));
  EXPECT_TRUE(source.Drained());
}

}  // namespace
}  // namespace liger::agent
