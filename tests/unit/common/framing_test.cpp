#include "common/framing.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "liger/v1/job.pb.h"

namespace liger {
namespace {

using Result = FrameReader::Result;

TEST(FramingTest, ReadsBackWhatWasWrittenByteByByte) {
  const std::vector<std::string> payloads = {"a", "bc", std::string(100000, 'x')};
  std::string stream;
  for (const auto& payload : payloads) stream += EncodeFrame(payload);

  FrameReader reader;
  std::vector<std::string> read;
  std::string payload;
  for (char c : stream) {
    reader.Append(std::string_view(&c, 1));
    while (reader.Next(&payload) == Result::kFrame) read.push_back(payload);
  }
  EXPECT_EQ(read, payloads);
  EXPECT_EQ(reader.offset(), static_cast<int64_t>(stream.size()));
  EXPECT_EQ(reader.pending(), 0u);
}

TEST(FramingTest, TornTailStaysIncomplete) {
  std::string frame = EncodeFrame("hello");
  for (size_t cut = 0; cut < frame.size(); ++cut) {
    FrameReader reader;
    reader.Append(std::string_view(frame).substr(0, cut));
    std::string payload;
    EXPECT_EQ(reader.Next(&payload), Result::kIncomplete) << cut;
    EXPECT_EQ(reader.offset(), 0);
  }
}

TEST(FramingTest, EveryFlippedPayloadBitIsFound) {
  const std::string frame = EncodeFrame("hello");
  for (size_t byte = 4; byte < frame.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = frame;
      flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << bit));
      FrameReader reader;
      reader.Append(flipped);
      std::string payload;
      EXPECT_EQ(reader.Next(&payload), Result::kCorrupt) << byte << ":" << bit;
    }
  }
}

TEST(FramingTest, HugeLengthIsCorruptionNotAnAllocation) {
  FrameReader reader;
  reader.Append(std::string(8, '\xff'));
  std::string payload;
  EXPECT_EQ(reader.Next(&payload), Result::kCorrupt);
}

TEST(FramingTest, ZerosAreNoFrames) {
  FrameReader reader;
  reader.Append(EncodeFrame("a") + std::string(64, '\0'));
  std::string payload;
  EXPECT_EQ(reader.Next(&payload), Result::kFrame);
  EXPECT_EQ(reader.Next(&payload), Result::kCorrupt);
  EXPECT_TRUE(absl::IsInvalidArgument(WriteFrame(-1, liger::v1::Failure())));
}

TEST(FramingTest, WritesMessagesToADescriptor) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  liger::v1::Failure failure;
  failure.set_message("loss is NaN");
  ASSERT_TRUE(WriteFrame(fds[1], failure).ok());
  char bytes[256];
  const ssize_t n = read(fds[0], bytes, sizeof bytes);
  ASSERT_GT(n, 0);
  FrameReader reader;
  reader.Append(std::string_view(bytes, static_cast<size_t>(n)));
  std::string payload;
  ASSERT_EQ(reader.Next(&payload), Result::kFrame);
  liger::v1::Failure parsed;
  ASSERT_TRUE(parsed.ParseFromString(payload));
  EXPECT_EQ(parsed.message(), "loss is NaN");
  close(fds[0]);
  EXPECT_FALSE(WriteFrame(-1, failure).ok());
  close(fds[1]);
}

}  // namespace
}  // namespace liger
