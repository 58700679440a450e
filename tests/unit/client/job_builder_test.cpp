#include "client/job_builder.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "client/errors.h"
#include "client/job_template.h"
#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {
namespace {

using testing::HasSubstr;

std::string TempFile(const std::string& content) {
  char name[] = "/tmp/liger_job.XXXXXX";
  close(mkstemp(name));
  std::ofstream(name) << content;
  return name;
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
  SpecFlags absent;
  absent.file = "/nowhere/job.yaml";
  EXPECT_THAT(ErrorOf(absent), HasSubstr("/nowhere/job.yaml"));
  SpecFlags trainer;
  trainer.trainer = "orp";
  EXPECT_THAT(ErrorOf(trainer), HasSubstr("did you mean 'orpo'?"));
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

TEST(JobTemplateTest, TemplatesAndExamplesAreValidJobs) {
  std::vector<std::pair<std::string, std::string>> files = {{"sft", JobTemplate("sft")},
                                                            {"orpo", JobTemplate("orpo")}};
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(LIGER_SOURCE_DIR) + "/examples")) {
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

}  // namespace
}  // namespace liger::client
