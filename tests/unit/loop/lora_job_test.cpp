// Whole tiny jobs that train an adapter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/spec/spec.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/model_setup.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

liger::v1::JobSpec* Spec(Request& request) { return request.launch.mutable_resolved_spec(); }

// With the adapter that `lora` gives, in an attempt folder of its own.
Request WithLora(Request request, const TinyJob& job, const liger::v1::LoraSpec& lora,
                 const std::string& attempt = "attempt") {
  *Spec(request)->mutable_lora() = lora;
  FillDefaults(Spec(request));
  request.launch.set_attempt_dir(job.Path(attempt));
  return request;
}

// In place of what is filled in for the device.
void SetPrecision(liger::v1::Precision precision, Request& request) {
  auto* training = Spec(request)->mutable_training();
  training->clear_storage_dtype(), training->clear_compute_dtype();
  training->clear_gradient_dtype(), training->clear_optimizer_dtype();
  training->set_precision(precision);
}

liger::v1::LoraSpec Rank(int r) {
  liger::v1::LoraSpec lora;
  lora.set_r(r);
  return lora;
}

TaskOutcome RunWell(const Request& request) {
  TaskOutcome outcome = RunRecorded(request);
  EXPECT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();
  return outcome;
}

double EvalLoss(const TaskOutcome& outcome, bool first) {
  const auto evaluations = outcome.sink.All(Event::kEval);
  if (evaluations.empty()) return std::nan("");
  return (first ? evaluations.front() : evaluations.back()).eval().values().at("eval_loss");
}

double StepValue(const TaskOutcome& outcome, size_t step, const std::string& name) {
  return outcome.sink.All(Event::kStep).at(step).step().values().at(name);
}

std::vector<double> Losses(const TaskOutcome& outcome) {
  std::vector<double> losses;
  for (const Event& event : outcome.sink.All(Event::kStep)) {
    losses.push_back(event.step().values().at("loss"));
  }
  return losses;
}

TEST(LoraJobTest, LearnsAndSavesAnAdapterThatGoesOn) {
  const TinyJob job;
  const TaskOutcome outcome = RunWell(WithLora(job.Sft(), job, Rank(4)));
  EXPECT_LT(EvalLoss(outcome, false), 0.95 * EvalLoss(outcome, true));
  const fs::path folder = job.Path("attempt/model");
  for (const char* file : {"adapter_config.json", "tokenizer.json", "tokenizer_config.json",
                           "README.md", "metrics.jsonl", "resolved_spec.json", "manifest.json"}) {
    EXPECT_TRUE(fs::exists(folder / file)) << file;
  }
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "config.json"));
  const auto config = nlohmann::json::parse(ReadAll(folder / "adapter_config.json"));
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 8);
  EXPECT_EQ(config["base_model_name_or_path"], job.Path("model"));
  const auto weights = SafetensorsFile::Open(folder / "adapter_model.safetensors");
  EXPECT_EQ(weights->tensors().size(), 2 * 2 * 7u);
  const std::string card = ReadAll(folder / "README.md");
  EXPECT_THAT(card, HasSubstr("library_name: peft"));
  EXPECT_THAT(card, HasSubstr("| trained parameters | "));

  liger::v1::LoraSpec lora;
  lora.set_adapter_uri(folder);
  const TaskOutcome more = RunWell(WithLora(job.Sft(), job, lora, "more"));
  EXPECT_DOUBLE_EQ(EvalLoss(more, true), EvalLoss(outcome, false));
  EXPECT_LT(EvalLoss(more, false), EvalLoss(more, true));
  auto again = nlohmann::json::parse(ReadAll(job.Path("more/model/adapter_config.json")));
  EXPECT_EQ(again, config);
}

TEST(LoraJobTest, AnAdapterOfAnotherBaseIsWarnedOf) {
  const TinyJob job;
  Request first = WithLora(job.Sft(), job, Rank(4));
  Spec(first)->mutable_training()->set_max_steps(1);
  RunWell(first);
  liger::v1::LoraSpec lora;
  lora.set_adapter_uri(job.Path("attempt/model"));
  const std::string file = job.Path("attempt/model/adapter_config.json");
  // What is said of an adapter whose folder names `base`.
  const auto said = [&](const nlohmann::json& base) {
    auto config = nlohmann::json::parse(ReadAll(file));
    config["base_model_name_or_path"] = base;
    job.WriteFile("attempt/model/adapter_config.json", config.dump());
    const auto result = CheckJob(WithLora(job.Sft(), job, lora, "more"), StopFlag());
    EXPECT_EQ(result.violations_size(), 0);
    std::string found;
    for (const auto& warning : result.warnings()) {
      if (warning.code() == "AdapterBase") found += warning.field() + ": " + warning.message();
    }
    return found;
  };
  for (const nlohmann::json& base :
       std::vector<nlohmann::json>{nullptr, "", job.Path("model"), "org/Model", "/gone/model/",
                                   "/hub/models--org--model/snapshots/0123"}) {
    EXPECT_EQ(said(base), "") << base;
  }
  EXPECT_THAT(said("org/other-model"),
              testing::AllOf(HasSubstr("lora.adapter_uri: "), HasSubstr("'org/other-model'"),
                             HasSubstr("'" + job.Path("model") + "'")));
  const auto run = RunWell(WithLora(job.Sft(), job, lora, "more"));
  bool warned = false;
  for (const Event& event : run.sink.All(Event::kWarning)) {
    warned = warned || event.warning().code() == "AdapterBase";
  }
  EXPECT_TRUE(warned);
}

// A checkpoint is an adapter folder like the result, and more: the run goes on from it bit for bit.
TEST(LoraJobTest, ACheckpointIsAnAdapterFolder) {
  const TinyJob job;
  liger::v1::LoraSpec lora = Rank(4);
  lora.add_modules_to_save("embed_tokens");  // the head, too
  const auto with_checkpoints = [&](Request request) {
    Spec(request)->mutable_training()->set_save_steps(3);
    return request;
  };
  RunWell(with_checkpoints(WithLora(job.Dpo(), job, lora, "whole")));
  const std::string checkpoint = job.Path("whole/checkpoints/checkpoint-3");
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
                           "optimizer.safetensors", "trainer_state.json"}) {
    EXPECT_TRUE(fs::exists(fs::path(checkpoint) / file)) << file;
  }
  for (const char* file : {"config.json", "model.safetensors", "trainable.safetensors"}) {
    EXPECT_FALSE(fs::exists(fs::path(checkpoint) / file)) << file;
  }
  Request rest = with_checkpoints(WithLora(job.Dpo(), job, lora, "rest"));
  rest.launch.set_resume_from(checkpoint);
  EXPECT_EQ(RunWell(rest).sink.All(Event::kStep).size(), 5u);
  const auto whole = SafetensorsFile::Open(job.Path("whole/model/adapter_model.safetensors"));
  const auto resumed = SafetensorsFile::Open(job.Path("rest/model/adapter_model.safetensors"));
  ASSERT_EQ(whole->tensors().size(), resumed->tensors().size());
  for (const auto& [name, info] : whole->tensors()) {
    EXPECT_TRUE(at::equal(whole->View(name), resumed->View(name))) << name;
  }
  // Without lora it is another run, whose message does not print the section.
  Request whole_model = with_checkpoints(job.Dpo());
  whole_model.launch.set_attempt_dir(job.Path("whole_model"));
  Spec(whole_model)->mutable_training()->set_resume_from_checkpoint(checkpoint);
  EXPECT_THAT(RunRecorded(whole_model).sink.Last(Event::kFailed).failed().message(),
              testing::EndsWith("is of another run: lora: given -> not given"));
  Request added = with_checkpoints(WithLora(job.Dpo(), job, Rank(4), "added"));
  Spec(added)->mutable_training()->set_resume_from_checkpoint(checkpoint);
  EXPECT_THAT(RunRecorded(added).sink.Last(Event::kFailed).failed().message(),
              HasSubstr("lora.modules_to_save[0]: \"embed_tokens\" -> not given"));
  // As any adapter's folder.
  liger::v1::LoraSpec from;
  from.set_adapter_uri(checkpoint);
  RunWell(WithLora(job.Sft(), job, from, "from"));
}

TEST(LoraJobTest, MergedModelHasTheSameOutputs) {
  for (const bool dora : {false, true}) {
    const TinyJob job;
    liger::v1::LoraSpec lora = Rank(4);
    lora.set_merge(true);
    lora.set_use_dora(dora);
    lora.add_modules_to_save("lm_head");  // tied here
    Request fp32 = job.Sft();
    SetPrecision(liger::v1::PRECISION_FP32, fp32);
    const Request first = WithLora(fp32, job, lora);
    const TaskOutcome outcome = RunWell(first);
    const fs::path folder = job.Path("attempt/model");
    EXPECT_FALSE(fs::exists(folder / "adapter_config.json"));
    Request second = fp32;
    second.launch.set_attempt_dir(job.Path("second"));
    Spec(second)->mutable_model()->set_name(folder);
    Spec(second)->mutable_model()->set_random_init(false);
    Spec(second)->mutable_training()->set_max_steps(1);
    const double loss = EvalLoss(outcome, false);
    EXPECT_NEAR(EvalLoss(RunWell(second), true), loss, 2e-6 * loss) << "dora " << dora;
  }
}

TEST(LoraJobTest, CheckpointingWithAFrozenEmbeddingChangesNothing) {
  const TinyJob job;
  Request request = WithLora(job.Sft(), job, Rank(4));
  Spec(request)->mutable_lora()->set_lora_dropout(0.2);
  const auto plain = Losses(RunWell(request));
  Spec(request)->mutable_training()->set_gradient_checkpointing(true);
  request.launch.set_attempt_dir(job.Path("checkpointed"));
  EXPECT_EQ(Losses(RunWell(request)), plain);
}

TEST(LoraJobTest, DropoutIsSeededAndNotInEvaluation) {
  const TinyJob job;
  const auto run = [&](double dropout, int64_t seed, const std::string& attempt) {
    Request request = WithLora(job.Sft(), job, Rank(4), attempt);
    Spec(request)->mutable_lora()->set_lora_dropout(dropout);
    Spec(request)->mutable_training()->set_max_steps(4);
    // The base is drawn from the seed, too.
    Spec(request)->mutable_training()->set_seed(seed);
    return RunWell(request);
  };
  const TaskOutcome first = run(0.4, 1, "a"), again = run(0.4, 1, "b"), none = run(0, 1, "c");
  EXPECT_EQ(Losses(first), Losses(again));
  EXPECT_NE(Losses(first), Losses(none));
  EXPECT_EQ(EvalLoss(first, false), EvalLoss(again, false));
  // A second look at the trained adapter sees the same: nothing is drawn.
  liger::v1::LoraSpec lora;
  lora.set_adapter_uri(job.Path("a/model"));
  Request look = WithLora(job.Sft(), job, lora, "d");
  Spec(look)->mutable_training()->set_seed(1);
  EXPECT_DOUBLE_EQ(EvalLoss(RunWell(look), true), EvalLoss(first, false));
}

// The reference is the model as it was before the first step: the base without the
// new adapter, and the starting adapter where one goes on.
TEST(LoraJobTest, PreferenceReferenceIsTheStart) {
  const TinyJob job;
  liger::v1::LoraSpec lora = Rank(4);
  lora.add_modules_to_save("embed_tokens");
  const TaskOutcome dpo = RunWell(WithLora(job.Dpo(), job, lora));
  EXPECT_NEAR(StepValue(dpo, 0, "loss"), std::log(2.0), 1e-6);
  EXPECT_GT(StepValue(dpo, 7, "rewards/margins"), 0.01);

  liger::v1::LoraSpec more;
  more.set_adapter_uri(job.Path("attempt/model"));
  const TaskOutcome second = RunWell(WithLora(job.Dpo(), job, more, "second"));
  EXPECT_NEAR(StepValue(second, 0, "loss"), std::log(2.0), 1e-6);
  EXPECT_NEAR(StepValue(second, 0, "rewards/margins"), 0, 1e-5);
  EXPECT_GT(StepValue(second, 7, "rewards/margins"), 0.01);

  const TaskOutcome kto = RunWell(WithLora(job.Kto(), job, Rank(4), "kto"));
  EXPECT_NEAR(StepValue(kto, 0, "loss"), 0.5, 1e-6);
  const TaskOutcome orpo = RunWell(WithLora(job.Orpo(), job, Rank(4), "orpo"));
  EXPECT_LT(StepValue(orpo, 7, "loss"), StepValue(orpo, 0, "loss"));
}

// What is in memory: no fp32 copy of what is frozen, and nothing for it in the
// optimizer's list.
TEST(LoraJobTest, FrozenBaseIsInTheComputeDtype) {
  const TinyJob job;
  liger::v1::LoraSpec lora = Rank(4);
  lora.set_use_dora(true);
  lora.add_modules_to_save("model.norm");
  const Request request = WithLora(job.Sft(), job, lora);
  PrecisionPlan plan;
  plan.compute = at::kBFloat16;
  const Device device = Device::Open(liger::v1::DEVICE_KIND_CPU, 0);
  const TrainableModel trainable =
      MakeTrainableModel(request.spec(), job.Path("model"), plan, device);
  std::map<std::string, at::Tensor> trained;
  for (const auto& entry : trainable.parameters->entries()) {
    EXPECT_EQ(entry.storage.scalar_type(), at::kFloat) << entry.name;
    trained[entry.name] = entry.storage;
  }
  EXPECT_EQ(trained.size(), 3 * 2 * 7 + 1u);
  for (const auto& item : trainable.model->named_parameters()) {
    const bool magnitude = item.key().ends_with("lora_magnitude_vector");
    EXPECT_EQ(item.value().scalar_type(), magnitude ? at::kFloat : at::kBFloat16) << item.key();
    EXPECT_EQ(item.value().requires_grad(), trained.contains(item.key())) << item.key();
  }

  const auto reference = MakeReference(request.spec(), trainable);
  const auto own = trainable.model->named_parameters();
  for (const auto& item : reference->named_parameters()) {
    const bool saved = item.key() == "model.norm.weight";
    EXPECT_EQ(item.value().is_alias_of(own[item.key()]), !saved) << item.key();
    EXPECT_TRUE(at::equal(item.value(), own[item.key()])) << item.key();
    EXPECT_FALSE(item.value().requires_grad());
  }
}

// As far as in fp32.
TEST(LoraJobTest, LearnsInBf16) {
  const TinyJob job;
  const auto run = [&](liger::v1::Precision precision) {
    liger::v1::LoraSpec lora = Rank(4);
    lora.set_use_dora(true);
    Request request = WithLora(job.Sft(), job, lora, liger::v1::Precision_Name(precision));
    SetPrecision(precision, request);
    return RunWell(request);
  };
  const TaskOutcome exact = run(liger::v1::PRECISION_FP32);
  const double learned = EvalLoss(exact, true) - EvalLoss(exact, false);
  EXPECT_GT(learned, 0.05 * EvalLoss(exact, true));
  for (const auto precision :
       {liger::v1::PRECISION_BF16_MIXED, liger::v1::PRECISION_BF16_STOCHASTIC}) {
    const TaskOutcome outcome = run(precision);
    EXPECT_NEAR(EvalLoss(outcome, true) - EvalLoss(outcome, false), learned, 0.2 * learned);
  }
}

TEST(LoraJobTest, CheckFindsWhatDoesNotFit) {
  const TinyJob job;
  const auto check = [&](const liger::v1::LoraSpec& lora) {
    return CheckJob(WithLora(job.Sft(), job, lora), StopFlag());
  };
  const auto good = check(Rank(4));
  EXPECT_EQ(good.violations_size(), 0) << good.ShortDebugString();
  // r (I + O) of q, o: 32+32; k, v: 32+16; gate, up: 32+64; down: 64+32.
  EXPECT_EQ(good.stats().at("trained_parameters"), 2 * 4 * (2 * 64 + 2 * 48 + 3 * 96));

  liger::v1::LoraSpec nothing = Rank(4);
  nothing.add_target_modules("query");
  auto result = check(nothing);
  ASSERT_EQ(result.violations_size(), 1);
  EXPECT_EQ(result.violations(0).field(), "lora.target_modules");
  EXPECT_THAT(result.violations(0).message(), HasSubstr("'query'"));

  liger::v1::LoraSpec elsewhere;
  elsewhere.set_adapter_uri(job.Path("nowhere"));
  result = check(elsewhere);
  ASSERT_GE(result.violations_size(), 1);
  EXPECT_EQ(result.violations(0).field(), "lora.adapter_uri");

  liger::v1::LoraSpec no_adapter;
  no_adapter.set_adapter_uri(job.Path("model"));
  result = check(no_adapter);
  ASSERT_EQ(result.violations_size(), 1);
  EXPECT_THAT(result.violations(0).message(), HasSubstr("is no adapter folder"));
}

}  // namespace
}  // namespace liger::trainer
