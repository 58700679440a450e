#include "worker/trainer/loop/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;

std::string ErrorOf(const SpecOptions& options) {
  try {
    ReadSpec(options);
    return "accepted";
  } catch (const TrainerError& error) {
    EXPECT_EQ(error.failure().class_(), liger::v1::FAILURE_CLASS_CONFIG);
    return error.what();
  }
}

class RequestTest : public testing::Test {
 protected:
  SpecOptions Write(const std::string& yaml) {
    job_.WriteFile("job.yaml", yaml);
    return {job_.Path("job.yaml"), {}, job_.Path("out"), false};
  }
  std::string Minimal() const {
    return "model: " + job_.Path("model") + "\ndataset: " + job_.Path("sft.jsonl") + "\nsft: {}\n";
  }
  TinyJob job_;
};

TEST_F(RequestTest, FillsDefaultsAndAppliesOverrides) {
  SpecOptions options = Write(Minimal());
  options.overrides = {"training.max_steps=3", "training.learning_rate=1e-4"};
  const Request request = ReadSpec(options);
  EXPECT_EQ(request.spec().training().max_steps(), 3);
  EXPECT_EQ(request.spec().training().learning_rate(), 1e-4);
  EXPECT_EQ(request.spec().training().adam_beta2(), 0.999);
  EXPECT_EQ(request.publish_to, job_.Path("out"));
  EXPECT_TRUE(request.alone());
  EXPECT_THAT(request.launch.attempt_dir(), testing::StartsWith(job_.Path("out") + ".attempt-"));
}

TEST_F(RequestTest, MisspeltFieldIsNamedWithItsLine) {
  EXPECT_THAT(ErrorOf(Write(Minimal() + "training:\n  learning_rat: 1e-3\n")),
              testing::AllOf(HasSubstr("job.yaml:5"), HasSubstr("learning_rate")));
}

TEST_F(RequestTest, ValueOutOfRangeIsNamed) {
  SpecOptions options = Write(Minimal());
  options.overrides = {"training.adam_beta1=1.5"};
  EXPECT_THAT(ErrorOf(options), HasSubstr("training.adam_beta1"));
}

TEST_F(RequestTest, BadOverridesAreRefused) {
  SpecOptions options = Write(Minimal());
  options.overrides = {"training.max_steps"};
  EXPECT_THAT(ErrorOf(options), HasSubstr("expected field=value"));
  options.overrides = {"training.no_such_field=3"};
  EXPECT_THAT(ErrorOf(options), HasSubstr("no_such_field"));
}

TEST_F(RequestTest, CheckpointsOfAnEarlierRunAreNotMixedWithItsOwn) {
  SpecOptions options = Write(Minimal());
  options.overrides = {"training.save_steps=5"};
  std::filesystem::create_directories(job_.Path("out.checkpoints/checkpoint-5"));
  EXPECT_THAT(ErrorOf(options), HasSubstr("holds the checkpoints of an earlier run"));
  options.overrides.push_back("training.resume_from_checkpoint=" + job_.Path("out"));
  EXPECT_EQ(ReadSpec(options).publish_to, job_.Path("out"));
  options.overrides = {"training.save_steps=5", "output.overwrite=true"};
  EXPECT_EQ(ReadSpec(options).publish_to, job_.Path("out"));
}

TEST_F(RequestTest, ACheckLooksAtThePlaceThatTheRunWouldHave) {
  SpecOptions options = Write(Minimal());
  options.check = true;
  EXPECT_EQ(ReadSpec(options).launch.output_dir(), job_.Path("out"));
  EXPECT_FALSE(ReadSpec(options).alone());
  options.output.clear();
  EXPECT_EQ(ReadSpec(options).launch.output_dir(), "") << "it need not have one";
}

TEST_F(RequestTest, ExistingOutputIsRefusedBeforeTraining) {
  const SpecOptions options = Write(Minimal());
  std::filesystem::create_directory(job_.Path("out"));
  EXPECT_THAT(ErrorOf(options), HasSubstr("exists already"));
}

TEST_F(RequestTest, LaunchOfAnotherVersionOrKindOfFileIsRefused) {
  liger::trainer::v1::Launch launch;
  launch.set_version(99);
  job_.WriteFile("launch", launch.SerializeAsString());
  EXPECT_THROW(ReadLaunch(job_.Path("launch")), TrainerError);
  job_.WriteFile("launch", "this is text");
  EXPECT_THROW(ReadLaunch(job_.Path("launch")), TrainerError);
  EXPECT_THROW(ReadLaunch(job_.Path("absent")), TrainerError);
}

}  // namespace
}  // namespace liger::trainer
