// Jobs whose output has a place where it cannot be put.
#include "worker/trainer/loop/output_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::Contains;
using testing::HasSubstr;
using Event = liger::trainer::v1::Event;

// Looked at where an agent says that it will publish; nothing is made there.
TEST(OutputCheckTest, AnOutputThatCannotBeWrittenIsNamed) {
  const TinyJob job;
  Request request = job.Sft();
  job.WriteFile("file", "x");
  std::filesystem::create_directory(job.Path("there"));
  const auto violation = [&](const std::string& output) {
    request.launch.set_output_dir(job.Path(output));
    const auto result = CheckJob(request, StopFlag());
    EXPECT_THAT(result.checks_run(), Contains("output"));
    if (result.violations().empty()) return std::string("none");
    EXPECT_EQ(result.violations_size(), 1) << result.ShortDebugString();
    EXPECT_EQ(result.violations(0).field(), "output.uri");
    return result.violations(0).message();
  };
  EXPECT_EQ(violation("new/out"), "none");
  EXPECT_FALSE(std::filesystem::exists(job.Path("new")));
  EXPECT_EQ(violation("file/out"),
            "nothing can be written to " + job.Path("file/out") + ": " + job.Path("file") +
                ": Not a directory; name another place, or make that one writable for the "
                "worker's user");
  EXPECT_THAT(violation(std::string(240, 'n')), HasSubstr("takes names of 255 bytes"));
  EXPECT_THAT(violation("there"), HasSubstr("exists already"));
  request.launch.mutable_resolved_spec()->mutable_output()->set_overwrite(true);
  EXPECT_EQ(violation("there"), "none");
  // A place for checkpoints that takes none.
  job.WriteFile("out.checkpoints", "x");
  EXPECT_EQ(violation("out"), "none");
  request.launch.mutable_resolved_spec()->mutable_training()->set_save_steps(2);
  EXPECT_THAT(violation("out"), HasSubstr("out.checkpoints: Not a directory"));
}

// Another worker than the one that checked may see another place.
TEST(OutputCheckTest, AnOutputThatCannotBeWrittenFailsItBeforeItLoads) {
  const TinyJob job;
  Request request = job.Sft();
  job.WriteFile("file", "x");
  request.launch.set_output_dir(job.Path("file/out"));
  const TaskOutcome outcome = RunRecorded(request);
  EXPECT_EQ(outcome.exit_code, kExitFailed);
  const auto failure = outcome.sink.Last(Event::kFailed).failed();
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
  EXPECT_EQ(failure.field(), "output.uri");
  EXPECT_TRUE(outcome.sink.All(Event::kReady).empty());
}

}  // namespace
}  // namespace liger::trainer
