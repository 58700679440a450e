#include "common/spec/violations.h"

#include <gtest/gtest.h>

namespace liger {
namespace {

liger::v1::Failure MakeFailure(const std::string& field, const std::string& file,
                               const std::string& message, const std::string& action) {
  liger::v1::Failure failure;
  failure.set_field(field);
  failure.set_file(file);
  failure.set_message(message);
  failure.set_action(action);
  return failure;
}

TEST(ViolationsTest, FieldAndFileAreNamedOnce) {
  const auto absent = MakeFailure("model.name", "/m", "model.name: '/m' does not exist", "");
  EXPECT_EQ(ToViolation(absent).message(), "'/m' does not exist");
  EXPECT_EQ(FormatViolation(ToViolation(absent)), "model.name: '/m' does not exist");
  const auto relative = MakeFailure("model.name", "m", "model.name: 'm' does not exist", "");
  EXPECT_EQ(FormatViolation(ToViolation(relative)), "model.name: 'm' does not exist");
  const auto bad_row = MakeFailure("dataset", "/d.jsonl", "/d.jsonl: row 17: no answer", "");
  EXPECT_EQ(FormatViolation(ToViolation(bad_row)), "dataset: /d.jsonl: row 17: no answer");
}

// A column or a key of a file is none of the job's fields, and the message names it.
TEST(ViolationsTest, AViolationIsOfTheJobsFields) {
  const auto field = [](const std::string& named, const std::string& file) {
    return ToViolation(MakeFailure(named, file, "is wrong", ""), "dataset").field();
  };
  for (const char* place : {"", "chosen", "output", "messages[2].content", "model.merges[1]"}) {
    EXPECT_EQ(field(place, "/d.jsonl"), "dataset") << place;
  }
  for (const char* of_job :
       {"dataset.columns.prompt", "dataset.sources[1].uri", "sft.completion_only_loss"}) {
    EXPECT_EQ(field(of_job, "/d.jsonl"), of_job);
  }
  EXPECT_EQ(field("lora", ""), "lora");
  const auto row = MakeFailure("chosen", "/d.jsonl", "/d.jsonl: row 1: column chosen: is null", "");
  EXPECT_EQ(FormatViolation(ToViolation(row, "dataset")),
            "dataset: /d.jsonl: row 1: column chosen: is null");
}

TEST(ViolationsTest, AFileThatTheMessageDoesNotNameIsNamed) {
  EXPECT_EQ(FormatViolation(ToViolation(MakeFailure("", "/d.jsonl", "it is empty", ""))),
            "/d.jsonl: it is empty");
  liger::v1::Violation violation;
  violation.set_file("job");
  violation.set_line(3);
  violation.set_message("the job has no model");
  EXPECT_EQ(FormatViolation(violation), "job:3: the job has no model");
}

TEST(ViolationsTest, AnActionGoesOnInLowerCase) {
  EXPECT_EQ(WithAction("no template", "Use a model with one, or give plain text."),
            "no template; use a model with one, or give plain text");
  EXPECT_EQ(WithAction("no disk.", "NFS needs room"), "no disk; NFS needs room");
  EXPECT_EQ(WithAction("no disk", ""), "no disk");
}

}  // namespace
}  // namespace liger
