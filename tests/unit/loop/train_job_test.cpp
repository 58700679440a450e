#include "worker/trainer/loop/train_job.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/job_length.h"

namespace liger::trainer {
namespace {

using testing::ElementsAre;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

std::vector<double> StepValues(const RecordingSink& sink, const std::string& name) {
  std::vector<double> values;
  for (const Event& event : sink.All(Event::kStep))
    values.push_back(event.step().values().at(name));
  return values;
}

TEST(TotalStepsTest, MaxStepsOrEpochsRoundedUp) {
  liger::v1::TrainingSpec training;
  training.set_num_train_epochs(1.5);
  EXPECT_EQ(TotalSteps(training, 3), 5);
  training.set_max_steps(2);
  EXPECT_EQ(TotalSteps(training, 3), 2);
}

TEST(TrainJobTest, LearnsAndReportsInOrder) {
  const TinyJob job;
  const TaskOutcome outcome = RunRecorded(job.Sft());
  ASSERT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();

  const auto evaluations = outcome.sink.All(Event::kEval);
  ASSERT_EQ(evaluations.size(), 2u);
  EXPECT_EQ(evaluations[0].eval().step(), 0);
  EXPECT_EQ(evaluations[1].eval().step(), 8);
  EXPECT_LT(evaluations[1].eval().values().at("eval_loss"),
            evaluations[0].eval().values().at("eval_loss"));

  const auto steps = outcome.sink.All(Event::kStep);
  ASSERT_EQ(steps.size(), 8u);
  const auto& last = steps.back().step();
  EXPECT_EQ(last.step(), 8);
  EXPECT_EQ(last.max_steps(), 8);
  for (const char* name : {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens"}) {
    EXPECT_TRUE(last.values().contains(name)) << name;
  }
  EXPECT_EQ(last.values().at("num_tokens"), double(last.tokens_total()));
  EXPECT_GT(last.tokens_per_second(), 0);
  // Linear from 1e-2: the eighth of eight steps still has an eighth left.
  EXPECT_NEAR(last.values().at("learning_rate"), 1e-2 / 8, 1e-12);

  EXPECT_EQ(outcome.sink.All(Event::kSample).size(), 2u);
  EXPECT_GT(outcome.sink.Last(Event::kMemory).memory().peak_bytes(), 0);
  EXPECT_EQ(outcome.sink.Last(Event::kMemory).memory().kind(), "rss");
  const auto kernels = outcome.sink.Last(Event::kReady).ready().kernels_ran();
  EXPECT_GT(kernels.size(), 0);
  EXPECT_TRUE(outcome.sink.events.back().has_done());
  EXPECT_TRUE(outcome.sink.events[outcome.sink.events.size() - 2].has_inputs());
  EXPECT_TRUE(outcome.sink.events[outcome.sink.events.size() - 3].has_saved());
}

TEST(TrainJobTest, WritesOnlyBelowItsAttemptFolder) {
  const TinyJob job;
  const TaskOutcome outcome = RunRecorded(job.Sft());
  ASSERT_EQ(outcome.exit_code, kExitOk);
  const auto saved = outcome.sink.Last(Event::kSaved).saved();
  EXPECT_EQ(fs::path(saved.dir()).parent_path(), job.Path("attempt"));
  EXPECT_THAT(saved.manifest_digest(), testing::StartsWith("sha256:"));
  for (const char* file : {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl",
                           "resolved_spec.json", "README.md", "manifest.json"}) {
    EXPECT_TRUE(fs::exists(fs::path(saved.dir()) / file)) << file;
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(job.dir()))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::UnorderedElementsAre("attempt", "labelled.jsonl", "model",
                                                   "pairs.jsonl", "sft.jsonl"));
}

TEST(TrainJobTest, MetricsLogHasOneObjectALine) {
  const TinyJob job;
  ASSERT_EQ(RunRecorded(job.Sft()).exit_code, kExitOk);
  std::istringstream lines(ReadAll(job.Path("attempt/model/metrics.jsonl")));
  int logged_steps = 0, evaluations = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto object = nlohmann::json::parse(line);
    ASSERT_TRUE(object.contains("step")) << line;
    logged_steps += object.contains("loss");
    evaluations += object.contains("eval_loss");
  }
  EXPECT_EQ(logged_steps, 8);
  EXPECT_EQ(evaluations, 2);
}

// The saved folder, read again, is the model that was evaluated last.
TEST(TrainJobTest, SavedModelEvaluatesToTheSameBits) {
  const TinyJob job;
  const TaskOutcome first = RunRecorded(job.Sft());
  ASSERT_EQ(first.exit_code, kExitOk);
  Request again = job.Sft();
  auto* spec = again.launch.mutable_resolved_spec();
  spec->mutable_model()->set_name(first.sink.Last(Event::kSaved).saved().dir());
  spec->mutable_model()->set_random_init(false);
  spec->mutable_training()->set_max_steps(1);
  again.launch.set_attempt_dir(job.Path("attempt2"));
  const TaskOutcome second = RunRecorded(again);
  ASSERT_EQ(second.exit_code, kExitOk) << second.sink.Last(Event::kFailed).ShortDebugString();
  EXPECT_EQ(second.sink.All(Event::kEval)[0].eval().values().at("eval_loss"),
            first.sink.All(Event::kEval)[1].eval().values().at("eval_loss"));
  EXPECT_EQ(second.sink.All(Event::kSample)[0].sample().text(),
            first.sink.All(Event::kSample)[1].sample().text());
}

TEST(TrainJobTest, EqualRunsGiveEqualBits) {
  const TinyJob job;
  std::vector<std::string> weights;
  for (const char* attempt : {"a", "b"}) {
    Request request = job.Sft();
    request.launch.mutable_resolved_spec()->mutable_training()->set_deterministic(true);
    request.launch.set_attempt_dir(job.Path(attempt));
    ASSERT_EQ(RunRecorded(request).exit_code, kExitOk);
    weights.push_back(ReadAll(job.Path(attempt) + "/model/model.safetensors"));
  }
  ASSERT_GT(weights[0].size(), 1000u);
  EXPECT_EQ(weights[0], weights[1]);

  Request other = job.Sft();
  other.launch.mutable_resolved_spec()->mutable_training()->set_seed(43);
  other.launch.set_attempt_dir(job.Path("c"));
  ASSERT_EQ(RunRecorded(other).exit_code, kExitOk);
  EXPECT_NE(ReadAll(job.Path("c/model/model.safetensors")), weights[0]);
}

// Rows have different lengths: averaging the micro-batches' means instead of
// dividing by the step's tokens would give other losses.
TEST(TrainJobTest, AccumulationIsOneLargeBatch) {
  const TinyJob job;
  std::vector<std::vector<double>> losses, norms;
  for (const int batch : {4, 1}) {
    Request request = job.Sft();
    auto* training = request.launch.mutable_resolved_spec()->mutable_training();
    training->set_per_device_train_batch_size(batch);
    training->set_gradient_accumulation_steps(4 / batch);
    training->set_max_steps(4);
    const TaskOutcome outcome = RunRecorded(request);
    fs::remove_all(job.Path("attempt"));
    ASSERT_EQ(outcome.exit_code, kExitOk);
    losses.push_back(StepValues(outcome.sink, "loss"));
    norms.push_back(StepValues(outcome.sink, "grad_norm"));
  }
  for (size_t step = 0; step < 4; ++step) {
    EXPECT_NEAR(losses[0][step], losses[1][step], 2e-5 * losses[0][step]) << step;
    EXPECT_NEAR(norms[0][step], norms[1][step], 2e-4 * norms[0][step]) << step;
  }
}

TEST(TrainJobTest, PackingAndGroupingChangeNoLossOfAllRows) {
  const TinyJob job;
  const auto run = [&](bool packing, bool group_by_length) {
    Request request = job.Sft();
    auto* spec = request.launch.mutable_resolved_spec();
    spec->mutable_sft()->set_packing(packing);
    spec->mutable_training()->set_group_by_length(group_by_length);
    spec->mutable_training()->set_per_device_train_batch_size(1000);
    spec->mutable_training()->set_max_steps(3);
    request.launch.set_attempt_dir(job.Path(packing           ? "packed"
                                            : group_by_length ? "grouped"
                                                              : "plain"));
    const TaskOutcome outcome = RunRecorded(request);
    EXPECT_EQ(outcome.exit_code, kExitOk);
    return outcome.sink;
  };
  const RecordingSink plain = run(false, false), packed = run(true, false),
                      grouped = run(false, true);
  for (const RecordingSink* sink : {&packed, &grouped}) {
    EXPECT_EQ(sink->All(Event::kStep).front().step().tokens_total(),
              plain.All(Event::kStep).front().step().tokens_total());
    const auto losses = StepValues(*sink, "loss"), expected = StepValues(plain, "loss");
    ASSERT_EQ(losses.size(), expected.size());
    EXPECT_NEAR(losses[0], expected[0], 1e-6);
    for (size_t i = 1; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-5);
    EXPECT_NEAR(sink->All(Event::kEval).front().eval().values().at("eval_loss"),
                plain.All(Event::kEval).front().eval().values().at("eval_loss"), 1e-6);
  }
}

TEST(TrainJobTest, LogsAndEvaluatesAtIntervals) {
  const TinyJob job;
  Request request = job.Sft();
  auto* training = request.launch.mutable_resolved_spec()->mutable_training();
  training->set_logging_steps(3);
  training->set_eval_steps(4);
  training->set_eval_on_start(false);
  const TaskOutcome outcome = RunRecorded(request);
  std::vector<int64_t> logged, evaluated;
  for (const Event& e : outcome.sink.All(Event::kStep)) logged.push_back(e.step().step());
  for (const Event& e : outcome.sink.All(Event::kEval)) evaluated.push_back(e.eval().step());
  EXPECT_THAT(logged, ElementsAre(3, 6, 8));
  EXPECT_THAT(evaluated, ElementsAre(4, 8));
}

TEST(TrainJobTest, OrpoReportsRewards) {
  const TinyJob job;
  const TaskOutcome outcome = RunRecorded(job.Orpo());
  ASSERT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();
  const auto losses = StepValues(outcome.sink, "loss");
  EXPECT_LT(losses.back(), losses.front());
  EXPECT_EQ(StepValues(outcome.sink, "rewards/accuracies").size(), 8u);
}

// At the first step the model is its own reference; then the wanted answers draw ahead.
TEST(TrainJobTest, DpoAndKtoMoveAwayFromTheirReference) {
  const TinyJob job;
  for (const Request& request : {job.Dpo(), job.Kto()}) {
    const bool kto = request.spec().has_kto();
    const TaskOutcome outcome = RunRecorded(request);
    ASSERT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();
    const auto losses = StepValues(outcome.sink, "loss");
    EXPECT_NEAR(losses.front(), kto ? 0.5 : std::log(2), 1e-6);
    EXPECT_LT(losses.back(), losses.front());
    const auto margins = StepValues(outcome.sink, "rewards/margins");
    EXPECT_NEAR(margins.front(), 0, 1e-6);
    EXPECT_GT(margins.back(), 0.1);
    const auto evals = outcome.sink.All(Event::kEval);
    ASSERT_EQ(evals.size(), 2u);
    EXPECT_LT(evals.back().eval().values().at("eval_loss"),
              evals.front().eval().values().at("eval_loss"));
    std::filesystem::remove_all(job.Path("attempt"));
  }
}

TEST(TrainJobTest, SettingsWithoutEffectWarn) {
  const TinyJob job;
  Request request = job.Orpo();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_training()->set_max_steps(1);
  spec->mutable_training()->set_eval_steps(5);
  spec->mutable_kernels()->set_cross_entropy(true);
  const TaskOutcome outcome = RunRecorded(request);
  ASSERT_EQ(outcome.exit_code, kExitOk);
  std::vector<std::string> fields;
  for (const Event& e : outcome.sink.All(Event::kWarning)) fields.push_back(e.warning().field());
  EXPECT_THAT(fields, ElementsAre("training.eval_steps", "kernels.cross_entropy"));
}

TEST(TrainJobTest, ActivationCheckpointingChangesNoLoss) {
  const TinyJob job;
  std::vector<std::vector<double>> losses;
  for (const char* training : {"{}", R"({"gradient_checkpointing": true})",
                               R"({"gradient_checkpointing": true,
                                   "gradient_checkpointing_keep_attention": true,
                                   "activation_offloading": true})"}) {
    Request request = job.Sft();
    liger::v1::TrainingSpec more;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(training, &more).ok());
    request.launch.mutable_resolved_spec()->mutable_training()->MergeFrom(more);
    const TaskOutcome outcome = RunRecorded(request);
    fs::remove_all(job.Path("attempt"));
    ASSERT_EQ(outcome.exit_code, kExitOk);
    losses.push_back(StepValues(outcome.sink, "loss"));
  }
  EXPECT_EQ(losses[0], losses[2]);
  EXPECT_EQ(losses[0], losses[1]);
}

}  // namespace
}  // namespace liger::trainer
