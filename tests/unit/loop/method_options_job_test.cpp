// Options of the methods through whole tiny jobs.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/spec/metric_names.h"
#include "common/spec/spec.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using Event = liger::trainer::v1::Event;
using Values = std::vector<std::map<std::string, double>>;

Values Of(const google::protobuf::Map<std::string, double>& map) {
  return {{map.begin(), map.end()}};
}

struct Curves {
  Values steps, evals;
};

Curves RunJob(const TinyJob& job, const Request& request) {
  const TaskOutcome outcome = RunRecorded(request);
  EXPECT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();
  std::filesystem::remove_all(job.Path("attempt"));
  Curves curves;
  for (const Event& e : outcome.sink.All(Event::kStep)) {
    curves.steps.push_back(Of(e.step().values())[0]);
  }
  for (const Event& e : outcome.sink.All(Event::kEval)) {
    curves.evals.push_back(Of(e.eval().values())[0]);
  }
  return curves;
}

bool IsTiming(const std::string& name) {
  return name == "throughput" || name == "tflops" || name.starts_with("memory/");
}

void ExpectSame(const Values& actual, const Values& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  ASSERT_FALSE(actual.empty());
  for (size_t i = 0; i < expected.size(); ++i) {
    for (const auto& [name, value] : expected[i]) {
      if (name.ends_with("runtime") || IsTiming(name)) continue;
      EXPECT_NEAR(actual[i].at(name), value, tolerance * std::max(1.0, std::abs(value)))
          << name << " at " << i;
    }
  }
}

// Several epochs, so that KTO's mismatched answers differ from epoch to epoch.
TEST(MethodOptionsJobTest, PrecomputedReferenceIsTheLiveOne) {
  const TinyJob job;
  for (Request request : {job.Dpo(), job.Kto()}) {
    const Curves live = RunJob(job, request);
    auto* spec = request.launch.mutable_resolved_spec();
    if (spec->has_dpo()) {
      spec->mutable_dpo()->set_precompute_ref_log_probs(true);
    } else {
      spec->mutable_kto()->set_precompute_ref_log_probs(true);
    }
    const Curves cached = RunJob(job, request);
    EXPECT_EQ(live.steps.size(), 8u);
    EXPECT_EQ(live.evals.size(), 2u);
    ExpectSame(cached.steps, live.steps, 1e-6);
    ExpectSame(cached.evals, live.evals, 1e-6);
  }
}

// metric_for_best_model is checked against this list.
TEST(MethodOptionsJobTest, EvaluationsReportTheMetricsOfTheirMethod) {
  const TinyJob job;
  Request cpo = job.Orpo();
  cpo.launch.mutable_resolved_spec()->mutable_cpo();
  for (Request request : {job.Sft(), job.Orpo(), job.Dpo(), job.Kto(), cpo}) {
    auto* spec = request.launch.mutable_resolved_spec();
    spec->mutable_dataset()->set_eval_fraction(0.25);
    spec->mutable_training()->set_max_steps(1);
    FillDefaults(spec);
    const Curves curves = RunJob(job, request);
    std::set<std::string> reported, known;
    for (const auto& [name, value] : curves.evals.at(0)) reported.insert(name);
    for (const std::string& name : EvaluationMetrics(*spec)) known.insert("eval_" + name);
    EXPECT_EQ(reported, known);
    for (const char* name : {"grad_norm", "learning_rate", "epoch", "num_tokens", "throughput",
                             "tflops", "memory/rss"}) {
      EXPECT_TRUE(curves.steps.at(0).contains(name)) << name;
    }
  }
}

TEST(MethodOptionsJobTest, ASyncedReferenceFollowsTheModel) {
  const TinyJob job;
  Request request = job.Dpo();
  const Curves frozen = RunJob(job, request);
  auto* dpo = request.launch.mutable_resolved_spec()->mutable_dpo();
  dpo->set_sync_ref_model(true);
  dpo->set_ref_model_sync_steps(3);
  dpo->set_ref_model_mixup_alpha(1);
  const Curves synced = RunJob(job, request);
  for (int step = 0; step < 3; ++step) {
    EXPECT_EQ(synced.steps.at(step).at("loss"), frozen.steps.at(step).at("loss")) << step;
  }
  // Where the reference has just become the model, nothing tells them apart.
  EXPECT_NEAR(synced.steps.at(3).at("loss"), std::log(2), 1e-6);
  EXPECT_NEAR(synced.steps.at(3).at("rewards/margins"), 0, 1e-6);
  EXPECT_GT(std::abs(frozen.steps.at(3).at("rewards/margins")), 1e-4);
  EXPECT_NEAR(synced.steps.at(6).at("loss"), std::log(2), 1e-6);
}

TEST(MethodOptionsJobTest, CpoAndSimpoWidenTheMargin) {
  const TinyJob job;
  for (const char* loss_type : {"sigmoid", "simpo"}) {
    Request request = job.Orpo();
    auto* spec = request.launch.mutable_resolved_spec();
    spec->mutable_cpo()->set_loss_type(loss_type);
    FillDefaults(spec);
    const Curves curves = RunJob(job, request);
    ASSERT_EQ(curves.steps.size(), 8u);
    EXPECT_LT(curves.steps.back().at("loss"), curves.steps.front().at("loss")) << loss_type;
    EXPECT_GT(curves.steps.back().at("rewards/margins"), curves.steps.front().at("rewards/margins"))
        << loss_type;
    EXPECT_TRUE(curves.steps.back().contains("nll_loss"));
  }
}

TEST(MethodOptionsJobTest, NeftuneTrainsOtherwiseAndEvaluatesTheSame) {
  const TinyJob job;
  Request request = job.Sft();
  const Curves plain = RunJob(job, request);
  request.launch.mutable_resolved_spec()->mutable_sft()->set_neftune_noise_alpha(5);
  const Curves noisy = RunJob(job, request), again = RunJob(job, request);
  EXPECT_EQ(noisy.evals.front().at("eval_loss"), plain.evals.front().at("eval_loss"));
  EXPECT_NE(noisy.steps.front().at("loss"), plain.steps.front().at("loss"));
  for (size_t step = 0; step < noisy.steps.size(); ++step) {
    EXPECT_EQ(noisy.steps[step].at("loss"), again.steps[step].at("loss")) << step;
  }
  EXPECT_LT(noisy.steps.back().at("loss"), noisy.steps.front().at("loss"));
}

}  // namespace
}  // namespace liger::trainer
