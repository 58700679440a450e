#include "client/job_builder.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/errors.h"
#include "client/experiment_builder.h"
#include "client/job_template.h"
#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"
#include "tests/paths.h"

namespace liger::client {
namespace {

using liger::v1::JobSpec;
using testing::HasSubstr;

std::string TempFile(const std::string& content) {
  char name[] = "/tmp/liger_job.XXXXXX";
  close(mkstemp(name));
  std::ofstream(name) << content;
  return name;
}

JobSpec BuildSpec(const SpecFlags& flags) {
  std::vector<std::string> notes;
  return client::BuildSpec(flags, &notes);
}

std::string ErrorOf(const SpecFlags& flags) {
  try {
    BuildSpec(flags);
  } catch (const CliError& error) {
    EXPECT_EQ(error.code(), kInvalidInput);
    return error.what();
  }
  return "";
}

TEST(JobBuilderTest, FlagsLieOnTopOfTheFile) {
  SpecFlags flags;
  flags.file = TempFile("{model: a, orpo: {beta: 0.3}, training: {max_steps: 5, seed: 1}}");
  flags.model = "b";
  flags.trainer = "orpo";
  flags.kernels = "baseline";
  flags.sets = {"training.max_steps=7"};
  flags.labels = {"team=a=b"};
  const auto spec = BuildSpec(flags);
  EXPECT_EQ(spec.model().name(), "b");
  EXPECT_EQ(spec.orpo().beta(), 0.3);
  EXPECT_EQ(spec.training().max_steps(), 7);
  EXPECT_EQ(spec.training().seed(), 1);
  EXPECT_EQ(spec.kernels().mode(), liger::v1::KERNEL_MODE_BASELINE);
  EXPECT_EQ(spec.labels().at("team"), "a=b");
  std::filesystem::remove(flags.file);
}

TEST(JobBuilderTest, AnotherTrainerReplacesTheFilesOne) {
  SpecFlags flags;
  flags.file = TempFile("{model: a, orpo: {beta: 0.3}}");
  flags.trainer = "sft";
  EXPECT_TRUE(BuildSpec(flags).has_sft());
  std::filesystem::remove(flags.file);
}

TEST(JobBuilderTest, MistakesNameFlagFileAndField) {
  SpecFlags file;
  file.file = TempFile("model: a\ntrainig: {}\n");
  EXPECT_THAT(ErrorOf(file), HasSubstr(file.file + ":2: trainig: is not a field; did you mean"));
  std::filesystem::remove(file.file);
  file.file = TempFile("model: a\ngrid: []\njob: {}\n");
  EXPECT_THAT(ErrorOf(file), HasSubstr(":2: grid: is not a field here; is the file for: liger-cli "
                                       "experiment submit -f " + file.file + "?"));
  std::filesystem::remove(file.file);
  SpecFlags absent;
  absent.file = "/nowhere/job.yaml";
  EXPECT_THAT(ErrorOf(absent), HasSubstr("/nowhere/job.yaml"));
  SpecFlags trainer;
  trainer.trainer = "orp";
  EXPECT_THAT(ErrorOf(trainer), HasSubstr("did you mean 'orpo'?"));
  trainer.trainer = "ppo";
  EXPECT_THAT(ErrorOf(trainer), HasSubstr("--trainer ppo: must be one of sft, dpo, orpo, kto"));
  SpecFlags set;
  set.sets = {"training.max_steps"};
  EXPECT_THAT(ErrorOf(set), HasSubstr("must be KEY=VALUE"));
  SpecFlags kernels;
  kernels.kernels = "turbo";
  EXPECT_THAT(ErrorOf(kernels), HasSubstr("--kernels"));
}

TEST(JobBuilderTest, PathsThatExistHereBecomeAbsolute) {
  SpecFlags flags;
  flags.model = "./no-such-folder";
  flags.dataset = "../tmp/..";
  const auto spec = BuildSpec(flags);
  EXPECT_EQ(spec.model().name(), "./no-such-folder");
  flags.dataset = "catalog-name";
  EXPECT_EQ(BuildSpec(flags).dataset().name(), "catalog-name");
  const std::string file = TempFile("{}");
  flags.dataset = std::filesystem::relative(file).string();
  EXPECT_EQ(BuildSpec(flags).dataset().name(), file);
  std::filesystem::remove(file);
}

TEST(JobBuilderTest, PlainNamesThatExistHereArePathsAndSaidSo) {
  const std::string before = std::filesystem::current_path();
  char folder[] = "/tmp/liger_job.XXXXXX";
  std::filesystem::current_path(mkdtemp(folder));
  std::ofstream("rows.jsonl") << "{}";
  std::filesystem::create_directory("mine");
  std::ofstream("mine/config.json") << "{}";
  std::filesystem::create_directory("llama3-8b");  // no model
  std::vector<std::string> notes;
  SpecFlags flags;
  flags.dataset = "rows.jsonl";
  flags.model = "mine";
  const JobSpec spec = client::BuildSpec(flags, &notes);
  EXPECT_EQ(spec.dataset().name(), std::string(folder) + "/rows.jsonl");
  EXPECT_EQ(spec.model().name(), std::string(folder) + "/mine");
  EXPECT_THAT(notes, testing::ElementsAre(HasSubstr("model mine: taking ")));
  flags.model = "llama3-8b";
  EXPECT_EQ(BuildSpec(flags).model().name(), "llama3-8b");

  // A folder of data, patterns and sources.
  std::filesystem::create_directory("data");
  std::ofstream("data/rows.parquet") << "x";
  flags.dataset = "data";
  EXPECT_EQ(BuildSpec(flags).dataset().name(), std::string(folder) + "/data");
  flags.dataset = "data/*.parquet";
  EXPECT_EQ(BuildSpec(flags).dataset().name(), std::string(folder) + "/data/*.parquet");
  flags.dataset = "data/*.csv";  // matches nothing here, so it is for the worker
  EXPECT_EQ(BuildSpec(flags).dataset().name(), "data/*.csv");
  flags.dataset = "";
  flags.file =
      TempFile("{sft: , dataset: {eval_uri: rows.jsonl, sources: [{uri: data}, {uri: c4-demo}]}}");
  const auto sources = BuildSpec(flags).dataset();
  EXPECT_EQ(sources.sources(0).uri(), std::string(folder) + "/data");
  EXPECT_EQ(sources.sources(1).uri(), "c4-demo");
  EXPECT_EQ(sources.eval_uri(), std::string(folder) + "/rows.jsonl");
  std::filesystem::remove(flags.file);
  std::filesystem::current_path(before);
  std::filesystem::remove_all(folder);
}

TEST(JobBuilderTest, FilesThatCannotBeReadAreInvalidInput) {
  SpecFlags folder;
  folder.file = "/tmp";
  EXPECT_THAT(ErrorOf(folder), HasSubstr("/tmp"));
  SpecFlags large;
  large.file = TempFile(std::string((4 << 20) + 1, '#'));
  EXPECT_THAT(ErrorOf(large), HasSubstr("is larger than the limit"));
  std::filesystem::remove(large.file);
}

TEST(JobBuilderTest, SetDoesNotSwitchTheTrainer) {
  SpecFlags flags;
  flags.trainer = "sft";
  flags.sets = {"orpo.beta=0.2"};
  EXPECT_THAT(ErrorOf(flags), HasSubstr("--set orpo: cannot be given together with 'sft'"));
}

TEST(JobTemplateTest, TemplatesAndExamplesAreValidJobs) {
  std::vector<std::pair<std::string, std::string>> files = {{"sft", JobTemplate("sft")},
                                                            {"orpo", JobTemplate("orpo")}};
  for (const auto& entry : std::filesystem::directory_iterator(SourceDir() + "/examples")) {
    if (absl::EndsWith(entry.path().string(), "_grid.yaml")) {  // an experiment
      std::vector<std::string> notes;
      const auto experiment = BuildExperiment({.file = entry.path()}, &notes);
      EXPECT_GT(experiment.grid_size(), 0) << entry.path();
      continue;
    }
    std::ifstream in(entry.path());
    files.emplace_back(entry.path(), std::string(std::istreambuf_iterator<char>(in), {}));
  }
  EXPECT_GT(files.size(), 3u);
  for (const auto& [name, text] : files) {
    liger::v1::JobSpec spec;
    EXPECT_THAT(ParseYaml(text, name, &spec), testing::IsEmpty());
    EXPECT_THAT(ValidateSpec(spec), testing::IsEmpty()) << name;
  }
  EXPECT_THROW(JobTemplate("grpo"), CliError);
}

// As the coordinator resolves it.
JobSpec Resolved(const std::string& text) {
  JobSpec spec;
  EXPECT_THAT(ParseYaml(text, "template", &spec), testing::IsEmpty()) << text;
  FillDefaults(&spec);
  // The rows decide it; the template says of which.
  if (spec.has_sft()) spec.mutable_sft()->clear_completion_only_loss();
  return spec;
}

TEST(JobTemplateTest, WhatItSaysOfDefaultsIsWhatIsResolved) {
  for (const char* trainer : {"sft", "orpo"}) {
    const std::string text = JobTemplate(trainer);
    const std::string resolved = Resolved(text).DebugString();
    int commented = 0;
    int noted = 0;
    const std::vector<std::string> lines = absl::StrSplit(text, '\n');
    for (const std::string& line : lines) {
      std::smatch match;
      if (std::regex_match(line, match, std::regex("  # (\\w+: .*)"))) {
        const std::string set = absl::StrReplaceAll(text, {{line, "  " + match[1].str()}});
        EXPECT_EQ(Resolved(set).DebugString(), resolved) << line;
        ++commented;
      } else if (std::regex_match(line, match,
                                  std::regex("(  \\w+: )\\S+ .*\\(default (\\S+)\\)"))) {
        const std::string left_out = absl::StrReplaceAll(text, {{line, ""}});
        const std::string set =
            absl::StrReplaceAll(text, {{line, match[1].str() + match[2].str()}});
        EXPECT_EQ(Resolved(set).DebugString(), Resolved(left_out).DebugString()) << line;
        ++noted;
      }
    }
    EXPECT_GE(commented, 11) << trainer;
    EXPECT_GE(noted, 5) << trainer;
  }
}

}  // namespace
}  // namespace liger::client
