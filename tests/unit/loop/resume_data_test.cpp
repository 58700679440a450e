// A run goes on with the rows that it was started with, or not at all.
#include <functional>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/unit/loop/resumed_runs.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/run_state.h"

namespace liger::trainer {
namespace {

using liger::trainer::v1::Event;
using testing::AllOf;
using testing::HasSubstr;

class ResumeDataTest : public testing::Test {
 protected:
  // Trains with checkpoints, changes the rows, and goes on.
  TaskOutcome GoOn(const std::function<std::string(std::string)>& change) {
    EXPECT_EQ(RunRecorded(In(WithCheckpoints(job_.Sft()), job_.Path("first"))).exit_code, kExitOk);
    job_.WriteFile("sft.jsonl", change(ReadAll(job_.Path("sft.jsonl"))));
    request_ = job_.Sft();
    Training(request_).set_resume_from_checkpoint(job_.Path("first/checkpoints"));
    return RunRecorded(In(request_, job_.Path("second")));
  }

  void ExpectRefused(const std::function<std::string(std::string)>& change,
                     const std::string& message) {
    const auto failed = GoOn(change).sink.Last(Event::kFailed).failed();
    EXPECT_EQ(failed.class_(), liger::v1::FAILURE_CLASS_DATA);
    EXPECT_EQ(failed.field(), "dataset");
    EXPECT_THAT(failed.message(), AllOf(HasSubstr("the run of checkpoint"), HasSubstr(message)));
    const auto check = CheckJob(request_, StopFlag());
    ASSERT_EQ(check.violations_size(), 1);
    EXPECT_THAT(check.violations(0).message(), HasSubstr(message));
  }

  TinyJob job_;
  Request request_;
};

constexpr char kOthers[] = "had as many, but other ones or in another order";

TEST_F(ResumeDataTest, MoreRowsAreRefused) {
  ExpectRefused(
      [](const std::string& rows) {
        return rows + R"({"prompt": "one more? ", "completion": "yes"})" + "\n";
      },
      "had 18 rows");
}

TEST_F(ResumeDataTest, RowsOfOtherTokensAreRefused) {
  ExpectRefused(
      [](std::string rows) {
        for (char& c : rows) c = c == '!' ? '.' : c;
        return rows;
      },
      kOthers);
}

TEST_F(ResumeDataTest, RowsInAnotherOrderAreRefused) {
  ExpectRefused(
      [](const std::string& rows) {
        std::vector<std::string> lines = absl::StrSplit(rows, '\n');
        std::swap(lines[1], lines[11]);  // of one length
        EXPECT_NE(lines[1], lines[11]);
        return absl::StrJoin(lines, "\n");
      },
      kOthers);
}

// The date in the prompts is another one on the next day, and the rows are those that were meant.
TEST_F(ResumeDataTest, WhereTheTemplateReadsTheClockTheirNumberDecides) {
  job_.WriteFile("model/chat_template.jinja",
                 "{{ strftime_now('%d') }}{% for m in messages %}{{ m.content }}{% endfor %}");
  const TaskOutcome outcome = GoOn([](std::string rows) {
    for (char& c : rows) c = c == '!' ? '.' : c;
    return rows;
  });
  EXPECT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).DebugString();
}

// Checkpoints of earlier releases say nothing of the rows but their numbers.
TEST_F(ResumeDataTest, CheckpointsWithoutADigestGoByNumbers) {
  DataStats stats;
  stats.rows = 3;
  stats.digest = -5;
  RunState state;
  state.SetData(stats);
  auto json = nlohmann::ordered_json::parse(state.ToJson());
  job_.WriteFile("with.json", json.dump());
  json["data"].erase("digest");
  job_.WriteFile("without.json", json.dump());
  stats.digest = 6;
  RunState::FromFile(job_.Path("without.json")).RequireSameData(stats, "c");
  EXPECT_THROW(RunState::FromFile(job_.Path("with.json")).RequireSameData(stats, "c"),
               TrainerError);
  stats.rows = 4;
  EXPECT_THROW(RunState::FromFile(job_.Path("without.json")).RequireSameData(stats, "c"),
               TrainerError);
}

}  // namespace
}  // namespace liger::trainer
