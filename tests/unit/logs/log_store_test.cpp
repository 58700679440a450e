#include "server/logs/log_store.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace liger::server {
namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

class LogStoreTest : public ::testing::Test {
 protected:
  LogStoreTest() { std::filesystem::remove_all(root_); }

  const std::string root_ = ::testing::TempDir() + "/log_store_test";
  const LogKey key_{"job-1", 3, 0};
};

TEST_F(LogStoreTest, AppendsAndReadsBack) {
  LogStore logs(root_);
  EXPECT_EQ(*logs.Size(key_), 0);
  EXPECT_EQ(*logs.Append(key_, 0, "hello "), 6);
  EXPECT_EQ(*logs.Append(key_, 6, "world"), 11);
  EXPECT_EQ(*logs.Read(key_, 0, 100), "hello world");
  EXPECT_EQ(*logs.Read(key_, 6, 3), "wor");
  EXPECT_EQ(*logs.Read(key_, 11, 3), "");
  EXPECT_EQ(*logs.Size({"job-1", 3, 1}), 0);
}

TEST_F(LogStoreTest, AReplayAddsNothingTwice) {
  LogStore logs(root_);
  ASSERT_EQ(*logs.Append(key_, 0, "abcdef"), 6);
  EXPECT_EQ(*logs.Append(key_, 0, "abcdef"), 6);
  EXPECT_EQ(*logs.Append(key_, 3, "defghi"), 9);
  EXPECT_EQ(*logs.Read(key_, 0, 100), "abcdefghi");
}

TEST_F(LogStoreTest, AGapStoresNothingAndSaysWhereToGoOn) {
  LogStore logs(root_);
  ASSERT_EQ(*logs.Append(key_, 0, "abc"), 3);
  EXPECT_EQ(*logs.Append(key_, 10, "xyz"), 3);
  EXPECT_EQ(*logs.Read(key_, 0, 100), "abc");
}

TEST_F(LogStoreTest, OffsetsSurviveARestart) {
  { ASSERT_EQ(*LogStore(root_).Append(key_, 0, "abc"), 3); }
  LogStore again(root_);
  EXPECT_EQ(*again.Size(key_), 3);
  EXPECT_EQ(*again.Append(key_, 3, "def"), 6);
}

TEST_F(LogStoreTest, AFullJobIsCutVisiblyAndItsSenderGoesOn) {
  LogStore logs(root_, 10);
  EXPECT_EQ(*logs.Append(key_, 0, "0123456"), 7);
  EXPECT_EQ(*logs.Append(key_, 7, "789ABCDEF"), 16);
  EXPECT_EQ(*logs.Append(key_, 16, "more"), 20);
  const std::string stored = *logs.Read(key_, 0, 1000);
  EXPECT_THAT(stored, StartsWith("0123456789\n["));
  EXPECT_THAT(stored, EndsWith("on the worker]\n"));
  // The cap is the job's: another rank has no room either, also after a restart.
  LogStore again(root_, 10);
  const LogKey other{"job-1", 3, 1};
  EXPECT_EQ(*again.Append(other, 0, "xyz"), 3);
  EXPECT_EQ(*again.Append(other, 3, "more"), 7);
  EXPECT_EQ(*again.Read(other, 0, 1000), stored.substr(10)) << "the notice, once";
  EXPECT_EQ(*again.Append(key_, 20, "and more"), 28);
  EXPECT_EQ(*again.Read(key_, 0, 1000), stored);
}

TEST_F(LogStoreTest, ALaterAttemptOfAFullJobHasALogToo) {
  LogStore logs(root_, 1600);
  EXPECT_EQ(*logs.Append(key_, 0, std::string(2000, 'a')), 2000);
  const LogKey later{"job-1", 4, 0};
  EXPECT_EQ(*logs.Append(later, 0, "begins\n"), 7);
  EXPECT_EQ(*logs.Read(later, 0, 1000), "begins\n");
  EXPECT_EQ(*logs.Append(later, 7, std::string(500, 'b')), 507);
  const std::string stored = *logs.Read(later, 0, 1000);
  EXPECT_THAT(stored, StartsWith("begins\n" + std::string(93, 'b') + "\n["));
  EXPECT_THAT(stored, EndsWith("on the worker]\n"));
}

TEST_F(LogStoreTest, RefusesNamesThatLeaveTheFolder) {
  LogStore logs(root_);
  for (const char* uid : {"..", "", "a/b", "../../etc"}) {
    EXPECT_FALSE(logs.Append({uid, 1, 0}, 0, "x").ok()) << uid;
    EXPECT_FALSE(logs.Read({uid, 1, 0}, 0, 1).ok()) << uid;
  }
}

TEST_F(LogStoreTest, ListenersHearOfAppendsUntilRemoved) {
  LogStore logs(root_);
  int calls = 0;
  const int64_t id = logs.AddListener("job-1", [&] { ++calls; });
  ASSERT_TRUE(logs.Append(key_, 0, "a").ok());
  ASSERT_TRUE(logs.Append({"job-2", 1, 0}, 0, "a").ok());
  EXPECT_EQ(calls, 1);
  logs.RemoveListener("job-1", id);
  ASSERT_TRUE(logs.Append(key_, 1, "b").ok());
  EXPECT_EQ(calls, 1);
}

TEST_F(LogStoreTest, RemoveFreesTheJobsSpace) {
  LogStore logs(root_, 10);
  ASSERT_TRUE(logs.Append(key_, 0, "0123456789").ok());
  ASSERT_TRUE(logs.Remove("job-1").ok());
  EXPECT_EQ(*logs.Append(key_, 0, "abc"), 3);
  EXPECT_EQ(*logs.Read(key_, 0, 10), "abc");
}

}  // namespace
}  // namespace liger::server
