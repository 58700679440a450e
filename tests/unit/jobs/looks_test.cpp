#include "server/jobs/looks.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace liger::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What a look came to; empty until it has.
class Answer {
 public:
  Looks::Done done() {
    return [this](const std::set<std::string>& workers) {
      ++times;
      answered = workers;
    };
  }
  int times = 0;
  std::set<std::string> answered;
};

TEST(LooksTest, IsOverWhenAllHaveAnsweredIt) {
  Looks looks;
  Answer answer, nobody;
  const int64_t id = looks.Add({"a", "b"}, 1000, 2000, answer.done());
  looks.OnLooked("a", id - 1);  // an answer to one before
  looks.OnLooked("b", id);
  looks.OnLooked("b", id);
  EXPECT_EQ(answer.times, 0);
  looks.OnLooked("a", id + 5);
  EXPECT_EQ(answer.times, 1);
  EXPECT_THAT(answer.answered, ElementsAre("a", "b"));
  looks.Add({}, 1000, 2000, nobody.done());
  EXPECT_EQ(nobody.times, 1);
}

TEST(LooksTest, IdsRiseOverCoordinatorsAndClocksThatAreSetBack) {
  Looks looks;
  const int64_t first = looks.Add({}, 1000, 2000, Answer().done());
  EXPECT_GE(first, 1000) << "above those of an earlier coordinator";
  EXPECT_GT(looks.Add({}, 500, 2000, Answer().done()), first);
}

TEST(LooksTest, WaitsOnceForAWorkerThatHangs) {
  Looks looks;
  Answer missed, next, after;
  const int64_t id = looks.Add({"a"}, 1000, 2000, missed.done());
  looks.Expire(2000);
  looks.OnLooked("a", id - 1);  // as its heartbeats go on to say
  looks.Add({"a", "b"}, 2000, 3000, next.done());
  EXPECT_EQ(next.times, 0);
  looks.OnLooked("b", id + 5000);
  EXPECT_EQ(next.times, 1);
  EXPECT_THAT(next.answered, ElementsAre("b"));
  looks.OnLooked("a", id);
  looks.Add({"a"}, 3000, 4000, after.done());
  EXPECT_EQ(after.times, 0) << "it is awake";
}

TEST(LooksTest, WaitsForNoWorkerThatLostItAndNotForEver) {
  Looks looks;
  Answer answer, late, stopped;
  const int64_t id = looks.Add({"a", "b"}, 1000, 2000, answer.done());
  looks.OnLooked("b", id);
  looks.GiveUp("a");
  EXPECT_THAT(answer.answered, ElementsAre("b"));
  looks.Add({"a"}, 1000, 2000, late.done());
  looks.Expire(1999);
  EXPECT_EQ(late.times, 0);
  looks.Expire(2000);
  EXPECT_EQ(late.times, 1);
  EXPECT_THAT(late.answered, IsEmpty());
  looks.Add({"a"}, 1000, 2000, stopped.done());
  looks.EndAll();
  looks.EndAll();
  EXPECT_EQ(stopped.times, 1);
}

}  // namespace
}  // namespace liger::server
