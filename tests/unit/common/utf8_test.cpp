#include "common/utf8.h"

#include <gtest/gtest.h>

#include "liger/v1/job.pb.h"

namespace liger {
namespace {

TEST(Utf8Test, ReplacesOnlyWhatIsNotUtf8) {
  const std::string good = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
  EXPECT_EQ(ToValidUtf8(good), good);
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(ToValidUtf8("x\x80y"), "x" + bad + "y");
  EXPECT_EQ(ToValidUtf8("\xC0\xAF"), bad + bad) << "overlong";
  EXPECT_EQ(ToValidUtf8("\xED\xA0\x80"), bad + bad + bad) << "surrogate";
  EXPECT_EQ(ToValidUtf8("\xE2\x82"), bad + bad) << "cut off";
}

TEST(Utf8Test, MakesStringsValidAtEveryDepth) {
  v1::JobStatus status;
  status.set_message("caf\xE9");
  status.add_warnings()->set_message("na\xEFve");
  status.mutable_failure()->set_file("r\xE9sum\xE9.jsonl");
  (*status.mutable_progress()->mutable_peak_memory_bytes())["\xE9"] = 7;
  ASSERT_FALSE(v1::JobStatus().ParseFromString(status.SerializeAsString())) << "what this is for";

  MakeStringsValid(&status);
  v1::JobStatus read;
  ASSERT_TRUE(read.ParseFromString(status.SerializeAsString()));
  EXPECT_EQ(read.message(), "caf\xEF\xBF\xBD");
  EXPECT_EQ(read.warnings(0).message(), "na\xEF\xBF\xBDve");
  EXPECT_EQ(read.failure().file(), "r\xEF\xBF\xBDsum\xEF\xBF\xBD.jsonl");
  EXPECT_EQ(read.progress().peak_memory_bytes().at("\xEF\xBF\xBD"), 7);
}

}  // namespace
}  // namespace liger
