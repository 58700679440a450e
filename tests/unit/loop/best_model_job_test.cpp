// Whole tiny jobs that keep the model of their best evaluation, or stop after it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "common/checkpoints.h"
#include "tests/unit/loop/resumed_runs.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
using Event = liger::trainer::v1::Event;

// Evaluated on answers that are not among those it trains on: what it learns helps
// at first, and then no more.
Request Overtrained(const TinyJob& job) {
  std::string rows;
  for (int i = 0; i < 4; ++i) {
    rows += R"({"prompt": "colour )" + std::to_string(i) + R"(? ", "completion": "grey"})" + "\n";
  }
  job.WriteFile("other.jsonl", rows);
  Request request = job.Sft();
  auto* dataset = request.launch.mutable_resolved_spec()->mutable_dataset();
  dataset->set_eval_fraction(0);
  dataset->set_eval_uri(job.Path("other.jsonl"));
  Training(request).set_max_steps(30);
  Training(request).set_eval_steps(5);
  Training(request).set_learning_rate(0.02);
  Training(request).set_lr_scheduler_type("constant");
  Training(request).set_load_best_model_at_end(true);
  return request;
}

// With checkpoints of steps 10, 20 and 30, all kept.
Request Saving(Request request) {
  Training(request).set_save_steps(10);
  Training(request).set_save_total_limit(0);
  return request;
}

std::pair<int64_t, double> Best(const RecordingSink& sink) {
  std::pair<int64_t, double> best = {0, 1e30};
  for (const Event& event : sink.All(Event::kEval)) {
    const double loss = event.eval().values().at("eval_loss");
    if (event.eval().step() > 0 && loss < best.second) best = {event.eval().step(), loss};
  }
  return best;
}

// The model that is saved has the best evaluation's loss when it is evaluated again.
void ExpectSavedTheBest(const TaskOutcome& outcome, const TinyJob& job, const std::string& model) {
  const auto [step, loss] = Best(outcome.sink);
  ASSERT_LT(step, outcome.sink.All(Event::kEval).back().eval().step()) << "the last is the best";
  const auto saved = outcome.sink.Last(Event::kSaved).saved();
  EXPECT_EQ(saved.kind(), "model");
  EXPECT_EQ(saved.step(), step);
  EXPECT_EQ(saved.best().step(), step);
  EXPECT_EQ(saved.best().metric(), "eval_loss");
  EXPECT_EQ(saved.best().value(), loss);
  EXPECT_EQ(saved.best().stopped_after_step(), 0) << "it went to its end";
  Request again = In(Overtrained(job), job.Path("again"));
  again.launch.mutable_resolved_spec()->mutable_model()->set_name(model);
  again.launch.mutable_resolved_spec()->mutable_model()->set_random_init(false);
  Training(again).set_load_best_model_at_end(false);
  Training(again).set_max_steps(1);
  const TaskOutcome evaluated = RunRecorded(again);
  ASSERT_EQ(evaluated.exit_code, kExitOk) << Failure(evaluated);
  EXPECT_EQ(evaluated.sink.All(Event::kEval)[0].eval().values().at("eval_loss"), loss);
}

TEST(BestModelJobTest, SavesTheBestModel) {
  const TinyJob job;
  const TaskOutcome outcome = RunRecorded(Overtrained(job));
  ASSERT_EQ(outcome.exit_code, kExitOk) << Failure(outcome);
  ExpectSavedTheBest(outcome, job, job.Path("attempt/model"));
}

TEST(BestModelJobTest, TheBestModelOutlivesAnAttempt) {
  const TinyJob job;
  const Request request = Saving(Overtrained(job));
  const TaskOutcome whole = RunRecorded(In(request, job.Path("whole")));
  ASSERT_EQ(whole.exit_code, kExitOk) << Failure(whole);
  const int64_t best = Best(whole.sink).first;
  ASSERT_LT(best, 20);
  bool kept = false;
  for (const Event& event : whole.sink.All(Event::kSaved)) {
    kept |= event.saved().kind() == kBestCheckpointKind && event.saved().step() == best;
  }
  EXPECT_TRUE(kept);
  const TaskOutcome rest =
      RunRecorded(From(In(request, job.Path("rest")), Checkpoint(job.Path("whole"), 20)));
  ASSERT_EQ(rest.exit_code, kExitOk) << Failure(rest);
  EXPECT_EQ(rest.sink.Last(Event::kSaved).saved().step(), best);
  ExpectSameTensors(job.Path("rest/model/model.safetensors"),
                    job.Path("whole/model/model.safetensors"));
}

// Their numbers say nothing beside those of this job.
TEST(BestModelJobTest, TheBestOfAnotherMetricOrOfOtherRowsIsForgotten) {
  const TinyJob job;
  const Request request = Saving(Overtrained(job));
  const TaskOutcome whole = RunRecorded(In(request, job.Path("whole")));
  ASSERT_EQ(whole.exit_code, kExitOk) << Failure(whole);
  ASSERT_LT(Best(whole.sink).first, 20);
  const auto expect_forgotten = [&](Request again, const char* name, const std::string& why) {
    const std::string checkpoint = Checkpoint(job.Path("whole"), 20);
    const TaskOutcome rest = RunRecorded(From(In(again, job.Path(name)), checkpoint));
    ASSERT_EQ(rest.exit_code, kExitOk) << Failure(rest);
    EXPECT_GT(rest.sink.Last(Event::kSaved).saved().best().step(), 20);
    const auto is_told = [&](const liger::v1::Warning& warning) {
      return warning.message().find(why) != std::string::npos;
    };
    EXPECT_TRUE(std::ranges::any_of(rest.sink.All(Event::kWarning),
                                    [&](const Event& event) { return is_told(event.warning()); }));
    Training(again).set_resume_from_checkpoint(checkpoint);
    EXPECT_TRUE(std::ranges::any_of(CheckJob(again, StopFlag()).warnings(), is_told));
  };
  Request accuracy = request;
  Training(accuracy).set_metric_for_best_model("mean_token_accuracy");
  Training(accuracy).set_greater_is_better(true);
  expect_forgotten(accuracy, "accuracy",
                   "is of eval_loss, the lower the better, and the job's metric is "
                   "eval_mean_token_accuracy, the greater the better: the best model is looked");
  Request others = request;
  job.WriteFile("third.jsonl", R"({"prompt": "colour 1? ", "completion": "blue"})");
  others.launch.mutable_resolved_spec()->mutable_dataset()->set_eval_uri(job.Path("third.jsonl"));
  expect_forgotten(others, "others", "is of other evaluation rows than the job's: the best model");
}

TEST(BestModelJobTest, StopsEarly) {
  const TinyJob job;
  Request request = Overtrained(job);
  Training(request).set_load_best_model_at_end(false);
  Training(request).set_early_stopping_patience(1);
  Training(request).set_save_steps(5);
  const TaskOutcome outcome = RunRecorded(In(request, job.Path("whole")));
  ASSERT_EQ(outcome.exit_code, kExitOk) << Failure(outcome);
  const auto evaluations = outcome.sink.All(Event::kEval);
  const int64_t last = evaluations.back().eval().step();
  EXPECT_LT(last, 30);
  EXPECT_EQ(last, Best(outcome.sink).first + 5);
  const auto saved = outcome.sink.Last(Event::kSaved).saved();
  EXPECT_EQ(saved.step(), last);
  EXPECT_EQ(saved.best().stopped_after_step(), last);
  EXPECT_EQ(saved.best().step(), Best(outcome.sink).first);
  EXPECT_EQ(saved.best().value(), Best(outcome.sink).second);

  // Whoever goes on from there is told that there is nothing to do.
  Request again = In(request, job.Path("again"));
  Training(again).set_resume_from_checkpoint(job.Path("whole/checkpoints/") + CheckpointName(last));
  const auto warned = [&] {
    const auto check = CheckJob(again, StopFlag());
    EXPECT_EQ(check.violations_size(), 0) << check.ShortDebugString();
    return std::ranges::any_of(check.warnings(), [](const liger::v1::Warning& warning) {
      return warning.code() == "NothingToTrain" &&
             warning.field() == "training.early_stopping_patience";
    });
  };
  EXPECT_TRUE(warned());
  Training(again).set_early_stopping_patience(2);
  EXPECT_FALSE(warned());
}

TEST(BestModelJobTest, AnUnknownMetricFailsBeforeTheFirstStep) {
  const TinyJob job;
  Request request = Overtrained(job);
  Training(request).set_metric_for_best_model("accuracy");
  const TaskOutcome outcome = RunRecorded(request);
  EXPECT_EQ(outcome.sink.Last(Event::kFailed).failed().field(), "training.metric_for_best_model");
  EXPECT_THAT(outcome.sink.Last(Event::kFailed).failed().action(), HasSubstr("eval_loss"));
  EXPECT_TRUE(outcome.sink.All(Event::kStep).empty());
}

}  // namespace
}  // namespace liger::trainer
