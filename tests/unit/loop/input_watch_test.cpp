#include "worker/trainer/loop/input_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/file_state.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/code_files.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using Event = liger::trainer::v1::Event;
using testing::Contains;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using testing::Pair;
using testing::UnorderedElementsAre;

std::map<std::string, std::string> Digests(const liger::trainer::v1::Inputs& inputs) {
  return {inputs.digests().begin(), inputs.digests().end()};
}

TEST(InputWatchTest, LeavesOutWhatHasChanged) {
  const TinyJob job;
  const Request request = job.Sft();
  const InputWatch watch(request.spec(), InputPaths::Resolve(request));
  EXPECT_THAT(
      Digests(watch.Unchanged()),
      UnorderedElementsAre(
          Pair("code", FileStatesDigest(CodeFiles())),
          Pair("model files", FolderStateDigest(job.Path("model"), "additional_chat_templates")),
          Pair("dataset file", FileStateDigest("sft.jsonl", job.Path("sft.jsonl")))));
  absl::SleepFor(absl::Milliseconds(20));  // a tick of the file system's clock
  const auto rows = std::filesystem::last_write_time(job.Path("sft.jsonl"));
  job.WriteFile("sft.jsonl", ReadAll(job.Path("sft.jsonl")));
  std::filesystem::last_write_time(job.Path("sft.jsonl"), rows);
  EXPECT_THAT(Digests(watch.Unchanged()), Not(Contains(Key("dataset file"))))
      << "the same size, bytes and mtime";
  EXPECT_THAT(Digests(watch.Unchanged()), Contains(Key("model files")));
  std::filesystem::create_directory(job.Path("model/additional_chat_templates"));
  job.WriteFile("model/additional_chat_templates/rag.jinja", "{{ messages }}");
  EXPECT_THAT(Digests(watch.Unchanged()), UnorderedElementsAre(Key("code")));
}

TEST(InputWatchTest, NamesEachFileAsTheCoordinatorDoes) {
  const TinyJob job;
  Request request = job.Sft();
  liger::v1::DatasetSpec& dataset = *request.launch.mutable_resolved_spec()->mutable_dataset();
  dataset.clear_uri();
  dataset.add_sources()->set_uri(job.Path("sft.jsonl"));
  std::filesystem::create_symlink("sft.jsonl", job.Path("named.jsonl"));
  dataset.add_sources()->set_uri("file://" + job.Path("named.jsonl"));
  dataset.set_eval_uri(job.Path("*.jsonl"));
  const auto digests =
      Digests(InputWatch(request.spec(), InputPaths::Resolve(request)).Unchanged());
  EXPECT_EQ(digests.at("dataset file 1"), FileStateDigest("sft.jsonl", job.Path("sft.jsonl")));
  EXPECT_EQ(digests.at("dataset file 2"), FileStateDigest("named.jsonl", job.Path("sft.jsonl")))
      << "as the inventory lists a link";
  EXPECT_THAT(digests, Not(Contains(Key("evaluation file")))) << "a pattern is not one file";
}

TEST(InputWatchTest, SaysThatTheTemplateReadsTheClock) {
  const TinyJob job;
  job.WriteFile("model/chat_template.jinja",
                "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}");
  const Request request = job.Sft();
  const InputPaths paths = InputPaths::Resolve(request);
  InputWatch watch(request.spec(), paths);
  watch.AddText(TextInputs::Load(paths));
  EXPECT_THAT(Digests(watch.Unchanged()), Contains(Key("clock")));
}

TEST(InputWatchTest, IsToldJustBeforeTheLastEvent) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_training()->set_max_steps(1);
  const TaskOutcome done = RunRecorded(request);
  ASSERT_EQ(done.exit_code, kExitOk);
  ASSERT_GT(done.sink.events.size(), 1u);
  EXPECT_TRUE(done.sink.events.back().has_done());
  EXPECT_THAT(Digests(done.sink.events[done.sink.events.size() - 2].inputs()),
              UnorderedElementsAre(Key("code"), Key("model files"), Key("dataset file")));

  job.WriteFile("sft.jsonl", "{\"prompt\": 3}\n");
  const TaskOutcome failed = RunRecorded(request);
  EXPECT_TRUE(failed.sink.events.back().has_failed());
  EXPECT_TRUE(failed.sink.events[failed.sink.events.size() - 2].has_inputs());
}

TEST(CodeFilesTest, AreTheProgramAndWhatItLoads) {
  const std::vector<std::string>& files = CodeFiles();
  EXPECT_TRUE(std::is_sorted(files.begin(), files.end()));
  EXPECT_THAT(files, Contains(std::filesystem::read_symlink("/proc/self/exe").string()));
  EXPECT_THAT(files, Contains(HasSubstr("/libtorch_cpu.so")));
  EXPECT_THAT(files, Contains(HasSubstr("/libc10.so")));
  EXPECT_THAT(files, Contains(HasSubstr("/libarrow.so"))) << "loaded by the first Parquet file";
  for (const std::string& file : files) EXPECT_FALSE(FileState(file, file).empty()) << file;
}

}  // namespace
}  // namespace liger::trainer
