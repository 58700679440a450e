#include "worker/trainer/loop/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/file.h"
#include "tests/unit/loop/tiny_job.h"

namespace liger::trainer {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

liger::trainer::v1::CheckResult Check(const Request& request) {
  return CheckJob(request, StopFlag());
}

TEST(CheckTest, GoodJobHasNoViolationsAndCountsItsData) {
  const TinyJob job;
  const auto result = Check(job.Sft());
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  EXPECT_THAT(result.checks_run(), Contains("data"));
  EXPECT_EQ(result.stats().at("rows") + result.stats().at("eval_rows"), 24);
  EXPECT_GT(result.stats().at("tokens"), 0);
  EXPECT_GT(result.stats().at("parameters"), 10000);
  EXPECT_THAT(result.formats(), testing::ElementsAre("PROMPT_COMPLETION"));
}

TEST(CheckTest, WhatTheJobComesToIsTold) {
  const TinyJob job;
  Request request = job.Sft();
  liger::v1::JobSpec& spec = *request.launch.mutable_resolved_spec();
  const auto of_max_steps = Check(request);
  const int64_t rows = of_max_steps.stats().at("rows");
  const int64_t batch =
      spec.training().per_device_train_batch_size() * spec.training().gradient_accumulation_steps();
  const int64_t epoch = (rows + batch - 1) / batch;
  EXPECT_EQ(of_max_steps.stats().at("steps"), 8);
  EXPECT_EQ(of_max_steps.stats().at("steps_per_epoch"), epoch);
  EXPECT_THAT(of_max_steps.notices(),
              testing::ElementsAre(
                  absl::StrCat("trained parameters: all ", of_max_steps.stats().at("parameters")),
                  absl::StrFormat("8 optimizer steps, %.3g epochs of %d steps",
                                  8 / static_cast<double>(epoch), epoch)));
  spec.mutable_training()->clear_max_steps();
  spec.mutable_training()->set_num_train_epochs(3);
  spec.mutable_resources()->set_count(2);
  spec.mutable_lora()->set_r(1);
  spec.mutable_lora()->set_lora_alpha(1);
  spec.mutable_lora()->add_target_modules("q_proj");
  const auto of_epochs = Check(request);
  EXPECT_EQ(of_epochs.violations_size(), 0) << of_epochs.ShortDebugString();
  EXPECT_EQ(of_epochs.stats().at("steps_per_epoch"), (rows + 2 * batch - 1) / (2 * batch));
  EXPECT_EQ(of_epochs.stats().at("steps"), 3 * of_epochs.stats().at("steps_per_epoch"));
  const int64_t trained = of_epochs.stats().at("trained_parameters");
  const int64_t all = of_epochs.stats().at("parameters") + trained;
  EXPECT_THAT(of_epochs.notices(), Contains(testing::StartsWith(absl::StrCat(
                                       "trained parameters: ", trained, " of ", all, " ("))));
  spec.mutable_parallel()->set_elastic(true);  // on how many devices, nobody knows
  EXPECT_FALSE(Check(request).stats().contains("steps"));
}

TEST(CheckTest, TheFormatOfEachSourceIsTold) {
  const TinyJob job;
  Request request = job.Sft();
  auto* dataset = request.launch.mutable_resolved_spec()->mutable_dataset();
  dataset->clear_uri();
  std::filesystem::create_directory(job.Path("texts"));
  job.WriteFile("texts/a.jsonl", R"({"text": "a"})");
  job.WriteFile("texts/b.jsonl", R"({"input_ids": [1, 2]})");
  for (const char* name : {"sft.jsonl", "texts"}) dataset->add_sources()->set_uri(job.Path(name));
  const auto result = Check(request);
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  EXPECT_THAT(result.formats(),
              testing::ElementsAre("PROMPT_COMPLETION of " + job.Path("sft.jsonl"),
                                   "TEXT and TOKENIZED of " + job.Path("texts")));
}

TEST(CheckTest, MissingWeightsAndBadDataAreBothReported) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_model()->set_random_init(false);
  job.WriteFile("sft.jsonl", "{\"prompt\": \"x\", \"completion\": \"y\"}\n{\"prompt\": \"x\"\n");
  const auto result = Check(request);
  ASSERT_EQ(result.violations_size(), 2) << result.ShortDebugString();
  EXPECT_EQ(result.violations(0).field(), "model");
  EXPECT_EQ(result.violations(1).row(), 2);
  EXPECT_EQ(result.violations(1).line(), 0) << "a row is not a line of the file";
  EXPECT_THAT(result.violations(1).file(), HasSubstr("sft.jsonl"));
}

TEST(CheckTest, ACallThatTheChatTemplateLeavesOutIsNamed) {
  const TinyJob job;
  job.WriteFile("model/chat_template.jinja",
                "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}");
  job.WriteFile("sft.jsonl",
                R"({"messages": [{"role": "user", "content": "q"}, )"
                R"({"role": "assistant", "content": "a"}]})"
                "\n"
                R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", )"
                R"("content": "", "tool_calls": [{"type": "function", "function": )"
                R"({"name": "weather", "arguments": {}}}]}]})");
  const auto result = Check(job.Sft());
  ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
  EXPECT_EQ(result.violations(0).row(), 2);
  EXPECT_EQ(result.violations(0).field(), "dataset");
  EXPECT_THAT(result.violations(0).message(), HasSubstr("the call of \"weather\""));
}

// model: {name: smollm2-135m, random_init: true}, without any folder.
Request ShapeJob(const TinyJob& job, const std::string& rows) {
  Request request = job.Sft();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_model()->set_name("smollm2-135m");
  spec->mutable_training()->clear_sample_prompts();
  spec->mutable_dataset()->set_eval_fraction(0);
  job.WriteFile("sft.jsonl", rows);
  return request;
}

TEST(CheckTest, RandomWeightsOfAKnownShapeNeedNoFolder) {
  const TinyJob job;
  const auto result = Check(ShapeJob(job,
                                     "{\"input_ids\": [1, 2, 49151, 5]}\n"
                                     "{\"input_ids\": [7, 8, 9]}\n"));
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  EXPECT_EQ(result.stats().at("parameters"), 134515008);
  EXPECT_EQ(result.stats().at("tokens"), 7);
}

// For devices that the check does not have: those of the coordinator's workers.
TEST(CheckTest, WhatEachDeviceWillHoldIsAmongTheStats) {
  const TinyJob job;
  Request request = ShapeJob(job, "{\"input_ids\": [1, 2, 49151, 5]}\n");
  auto* spec = request.launch.mutable_resolved_spec();
  auto result = Check(request);
  const int64_t fp32 = 4 * 4 * result.stats().at("parameters");  // weights, gradients, two states
  EXPECT_EQ(result.stats().at("single_1_least_bytes"), fp32);
  EXPECT_FALSE(result.stats().contains("single_1_peak_bytes")) << "not predicted on CPUs";
  EXPECT_FALSE(result.stats().contains("shared_2_least_bytes"));

  spec->mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
  spec->mutable_resources()->set_count(4);
  result = Check(request);
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  EXPECT_EQ(result.stats().at("ddp_4_least_bytes"), fp32);
  EXPECT_GT(result.stats().at("ddp_4_peak_bytes"), fp32);
  EXPECT_LT(result.stats().at("fsdp_4_least_bytes"), fp32);
  EXPECT_EQ(result.stats().at("fsdp_4_least_bytes"), result.stats().at("shared_4_least_bytes"));
  EXPECT_GT(result.stats().at("shared_2_least_bytes"), result.stats().at("shared_4_least_bytes"));

  spec->mutable_parallel()->set_strategy(liger::v1::PARALLEL_STRATEGY_FSDP);
  spec->mutable_parallel()->set_elastic(true);
  result = Check(request);
  EXPECT_FALSE(result.stats().contains("ddp_4_least_bytes"));
  for (const char* ranks : {"1", "2", "4"}) {
    EXPECT_TRUE(result.stats().contains(std::string("fsdp_") + ranks + "_least_bytes")) << ranks;
  }

  spec->mutable_model()->set_name("no-such-shape");
  result = Check(request);
  EXPECT_THAT(result.checks_skipped(), Contains("memory"));
}

TEST(CheckTest, AShapeHasNoTokenizerForText) {
  const TinyJob job;
  const auto result = Check(ShapeJob(job, "{\"text\": \"some text\"}\n"));
  ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
  EXPECT_EQ(result.violations(0).field(), "model.random_init");
  EXPECT_THAT(result.violations(0).message(),
              AllOf(testing::StartsWith("there is no tokenizer"), HasSubstr("tokenizer.json"),
                    HasSubstr("input_ids"), Not(HasSubstr("row 1"))));
}

TEST(CheckTest, AShapeKnowsItsVocabulary) {
  const TinyJob job;
  const auto result = Check(ShapeJob(job, "{\"input_ids\": [1, 49152]}\n"));
  ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
  EXPECT_THAT(result.violations(0).message(), HasSubstr("49152"));
}

// The folder that the shape is named after may hold a tokenizer alone.
TEST(CheckTest, AShapeTakesTheTokenizerThatIsThere) {
  const TinyJob job;
  Request request = ShapeJob(job, "{\"text\": \"some text\"}\n");
  std::filesystem::remove(job.Path("model/config.json"));
  request.launch.mutable_resolved_spec()->mutable_model()->set_uri(job.Path("model"));
  const auto result = Check(request);
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
}

TEST(CheckTest, APromptAndItsAnswerFitIntoTheModelsContext) {
  const TinyJob job;  // 256 positions
  Request request = job.Sft();
  auto* training = request.launch.mutable_resolved_spec()->mutable_training();
  training->add_sample_prompts(std::string(2000, 'x'));
  const auto result = Check(request);
  ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
  EXPECT_EQ(result.violations(0).field(), "training.sample_prompts[1]");
  EXPECT_THAT(result.violations(0).message(), HasSubstr("256 positions"));
  EXPECT_THAT(result.checks_run(), Contains("data"));
  training->mutable_sample_prompts()->RemoveLast();
  training->set_sample_max_new_tokens(256);
  EXPECT_EQ(Check(request).violations(0).field(), "training.sample_prompts[0]");
}

TEST(CheckTest, UnimplementedConfigIsNamedAndDataIsSkipped) {
  const TinyJob job;
  std::string config = ReadAll(job.Path("model/config.json"));
  const std::string silu = "\"hidden_act\":\"silu\"";
  config.replace(config.find(silu), silu.size(), "\"hidden_act\":\"relu2\"");
  job.WriteFile("model/config.json", config);
  const auto result = Check(job.Sft());
  ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
  EXPECT_THAT(result.violations(0).message(), HasSubstr("relu2"));
  EXPECT_THAT(result.checks_skipped(), Contains("data"));
}

void SetConfig(const TinyJob& job, const nlohmann::json& patch,
               const std::string& file = "config.json") {
  const std::string path = "model/" + file;
  nlohmann::json config = nlohmann::json::parse(ReadAll(job.Path(path)), nullptr, false);
  if (config.is_discarded()) config = nlohmann::json::object();
  config.update(patch);
  job.WriteFile(path, config.dump());
}

// Only names and shapes of a model are made: this one's weights would be 4 TB.
TEST(CheckTest, AModelLargerThanTheMachineIsChecked) {
  const TinyJob job;
  SetConfig(job, {{"hidden_size", 1 << 15},
                  {"intermediate_size", 1 << 20},
                  {"head_dim", 128},
                  {"num_hidden_layers", 10}});
  const auto result = Check(job.Sft());
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  EXPECT_GT(result.stats().at("parameters"), int64_t{1'000'000'000'000});
}

TEST(CheckTest, AbsurdSizesAreViolationsOfTheConfig) {
  for (const char* key : {"num_hidden_layers", "hidden_size"}) {
    const TinyJob job;
    SetConfig(job, {{key, 1 << 26}, {"intermediate_size", 1 << 26}});
    const auto result = Check(job.Sft());
    ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
    EXPECT_EQ(result.violations(0).field(), "model");
    EXPECT_THAT(result.violations(0).message(), HasSubstr(key));
    EXPECT_THAT(result.violations(0).file(), HasSubstr("config.json"));
  }
}

TEST(CheckTest, GenerationConfigIsReadToo) {
  const TinyJob job;
  SetConfig(job, {{"eos_token_id", {256, "stop"}}}, "generation_config.json");
  const auto result = Check(job.Sft());
  ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
  EXPECT_EQ(result.violations(0).field(), "model");
  EXPECT_THAT(result.violations(0).message(),
              AllOf(HasSubstr("generation_config.json"), HasSubstr("eos_token_id")));
  SetConfig(job, {{"eos_token_id", {256, 10}}}, "generation_config.json");
  EXPECT_EQ(Check(job.Sft()).violations_size(), 0);
}

TEST(CheckTest, MissingPathStopsTheRest) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_dataset()->set_uri(job.Path("absent.jsonl"));
  const auto result = Check(request);
  ASSERT_EQ(result.violations_size(), 1);
  EXPECT_EQ(result.violations(0).field(), "dataset.uri");
  EXPECT_THAT(result.violations(0).message(), HasSubstr("absent.jsonl"));
}

TEST(CheckTest, AMissingModelIsReportedByTheFieldThatNamesIt) {
  const TinyJob job;
  Request request = job.Sft();
  auto* model = request.launch.mutable_resolved_spec()->mutable_model();
  const auto field = [&] { return Check(request).violations(0).field(); };
  model->set_name("/no/such");
  EXPECT_EQ(field(), "model.name");
  model->set_uri("/no/such");  // as the catalog has it
  EXPECT_EQ(field(), "model.name");
  model->clear_name();
  EXPECT_EQ(field(), "model.uri");
}

TEST(CheckTest, DigestsAreCompared) {
  const TinyJob job;
  Request request = job.Sft();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_dataset()->set_digest(*Sha256File(job.Path("sft.jsonl")));
  EXPECT_EQ(Check(request).violations_size(), 0);
  job.WriteFile("sft.jsonl", ReadAll(job.Path("sft.jsonl")) + "\n");
  const auto changed = Check(request);
  ASSERT_EQ(changed.violations_size(), 1);
  EXPECT_EQ(changed.violations(0).field(), "dataset.digest");
  spec->mutable_dataset()->clear_digest();
  spec->mutable_model()->set_digest("sha256:00");
  ASSERT_EQ(Check(request).violations_size(), 1);
  EXPECT_EQ(Check(request).violations(0).field(), "model.digest");
}

TEST(CheckTest, ReadsAtMostTheRowsAskedFor) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_dataset()->set_eval_fraction(0);
  request.launch.set_check_max_rows(5);
  EXPECT_EQ(Check(request).stats().at("rows"), 5);
  EXPECT_GT(Check(request).stats().at("unread_rows"), 0);
}

TEST(CheckTest, ReadsOnWhileThereIsTime) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_dataset()->set_eval_fraction(0);
  const int64_t rows = Check(request).stats().at("rows");
  request.launch.set_check_max_rows(5);
  request.launch.set_check_seconds(600);
  EXPECT_EQ(Check(request).stats().at("rows"), rows);
  EXPECT_EQ(Check(request).stats().count("unread_rows"), 0u);
  job.WriteFile("sft.jsonl", ReadAll(job.Path("sft.jsonl")) + "{\"text\": 3}\n");
  const auto bad = Check(request);
  ASSERT_EQ(bad.violations_size(), 1);
  EXPECT_NE(bad.violations(0).message().find("row " + std::to_string(rows + 1)), std::string::npos);
}

TEST(CheckTest, WhatAFolderOfSplitsLeavesOutIsToldUnlessItIsEvaluatedOn) {
  const TinyJob job;
  Request request = job.Sft();
  auto* dataset = request.launch.mutable_resolved_spec()->mutable_dataset();
  const std::string folder = job.Path("data"), rows = ReadAll(job.Path("sft.jsonl"));
  std::filesystem::create_directory(folder);
  for (const char* name : {"train.jsonl", "test.jsonl", "val.jsonl"}) {
    job.WriteFile(std::string("data/") + name, rows);
  }
  dataset->set_uri(folder);
  dataset->set_eval_fraction(0);
  const auto warnings = [&] {
    const auto result = Check(request);
    EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
    EXPECT_EQ(result.stats().at("rows"), 24);
    std::vector<std::string> sentences;
    for (const auto& warning : result.warnings()) sentences.push_back(warning.message());
    return sentences;
  };
  EXPECT_THAT(warnings(),
              Contains(HasSubstr(folder +
                                 ": its files are by their names not all of the training "
                                 "split, which alone is trained on; left out: test.jsonl, "
                                 "val.jsonl; to evaluate on such a file, name it in "
                                 "dataset.eval_uri (" +
                                 folder +
                                 "/test.jsonl); to train on all, name a pattern instead "
                                 "of the folder (" +
                                 folder + "/*.jsonl)")));
  dataset->set_eval_uri(folder + "/val.jsonl");
  EXPECT_THAT(warnings(), Contains(HasSubstr("left out: test.jsonl;")));
  dataset->set_eval_uri(folder);
  EXPECT_THAT(warnings(), Contains(HasSubstr("evaluated on; left out: test.jsonl;")).Times(1));
  EXPECT_THAT(warnings(), Not(Contains(HasSubstr("trained on; left out"))));
  std::filesystem::remove(folder + "/val.jsonl");
  EXPECT_THAT(warnings(), Not(Contains(HasSubstr("left out"))));
  dataset->set_uri(job.Path("sft.jsonl"));
  EXPECT_THAT(warnings(), Contains(HasSubstr("evaluated on; left out: train.j")));
  EXPECT_THAT(warnings(), Not(Contains(HasSubstr("trained on, too"))));
  // Of train alone: of another set.
  std::filesystem::remove(folder + "/test.jsonl");
  EXPECT_THAT(warnings(), Not(Contains(HasSubstr("left out"))));
  dataset->set_uri(folder + "/*.jsonl");
  ASSERT_EQ(Check(request).violations_size(), 1);
  EXPECT_THAT(Check(request).violations(0).message(), HasSubstr("holds no split to evaluate on"));
  // Named, it is what was asked for.
  dataset->set_eval_uri(folder + "/train.jsonl");
  EXPECT_THAT(warnings(), Contains(HasSubstr("dataset.eval_uri: train.jsonl is trained on, too")));
}

}  // namespace
}  // namespace liger::trainer
