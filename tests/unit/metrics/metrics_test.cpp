#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"
#include "server/metrics/experiment_metrics.h"
#include "server/metrics/fleet_metrics.h"
#include "server/metrics/job_metrics.h"
#include "server/metrics/metrics_server.h"
#include "server/metrics/rpc_metrics.h"

namespace liger::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

liger::v1::Job RunningJob() {
  liger::v1::Job job;
  job.set_uid("u1");
  job.set_name("tune");
  liger::v1::JobSpec* spec = job.mutable_resolved_spec();
  spec->mutable_model()->set_name("smollm2");
  spec->mutable_dataset()->set_name("alpaca");
  spec->mutable_orpo();
  spec->mutable_training()->set_per_device_train_batch_size(4);
  spec->mutable_kernels()->set_mode(liger::v1::KERNEL_MODE_LIGER);
  (*spec->mutable_labels())["experiment"] = "exp7";
  (*spec->mutable_labels())["experiment_uid"] = "e7";
  job.mutable_status()->set_state(liger::v1::JobStatus::RUNNING);
  job.mutable_status()->set_epoch(1);
  liger::v1::Progress* progress = job.mutable_status()->mutable_progress();
  progress->set_step(5);
  progress->set_max_steps(20);
  progress->set_tokens_total(1000);
  progress->set_tokens_per_second(88.5);
  progress->set_mean_tokens_per_second(80);
  (*progress->mutable_values())["loss"] = 1.25;
  (*progress->mutable_values())["grad_norm"] = 3;
  (*progress->mutable_values())["learning_rate"] = 2e-5;
  (*progress->mutable_peak_memory_bytes())["rss"] = 4096;
  return job;
}

liger::trainer::v1::Step Step(double seconds, double tokens_per_second) {
  liger::trainer::v1::Step step;
  step.set_step_seconds(seconds);
  step.set_tokens_per_second(tokens_per_second);
  return step;
}

class MetricsTest : public ::testing::Test {
 protected:
  std::string Text() const { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
};

TEST_F(MetricsTest, ARunningJobHasItsSeriesAndItsIdentity) {
  JobMetrics metrics(registry_.get());
  metrics.Update(RunningJob(), kNow);
  metrics.ObserveStep("u1", 1, Step(0.3, 90));
  const std::string text = Text();
  const std::string id = "job_name=\"tune\",job_uid=\"u1\"";
  EXPECT_THAT(text,
              HasSubstr("liger_job_info{batch_size=\"4\",dataset=\"alpaca\",experiment=\"exp7\","
                        "experiment_uid=\"e7\",job_name=\"tune\",job_uid=\"u1\",kernels=\"LIGER\","
                        "model=\"smollm2\",point=\"batch size 4\",trainer=\"orpo\"} 1"));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_tokens_total{", id, "} 1000")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_tokens_per_second{", id, "} 88.5")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_mean_tokens_per_second{", id, "} 80")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_step{", id, "} 5")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_progress_ratio{", id, "} 0.25")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_loss{", id, "} 1.25")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_grad_norm{", id, "} 3")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_step_seconds_count{", id, "} 1")));
  EXPECT_THAT(text, HasSubstr("liger_job_peak_memory_bytes{" + id + ",kind=\"rss\"} 4096"));
  // Nothing measured it, so it is absent rather than 0.
  EXPECT_THAT(text, Not(HasSubstr("liger_job_mfu_ratio{")));
}

// Thousands may wait.
liger::v1::Experiment ExperimentWith(const std::string& uid, const std::string& taken) {
  liger::v1::Experiment experiment;
  experiment.set_uid(uid);
  experiment.set_name("again");
  experiment.set_state(liger::v1::Experiment::RUNNING);
  experiment.add_jobs()->set_job_uid("of its own");
  liger::v1::ExperimentJob* job = experiment.add_jobs();
  job->set_job_uid(taken);
  job->set_cached(true);
  return experiment;
}

TEST_F(MetricsTest, AnExperimentHasTheJobsThatItTookUntilItIsLongOver) {
  ExperimentMetrics metrics(registry_.get());
  liger::v1::Experiment experiment = ExperimentWith("e1", "u1");
  EXPECT_THAT(metrics.Update(experiment, kNow), ::testing::ElementsAre(1));
  liger::v1::Job job = RunningJob();
  job.mutable_status()->set_state(liger::v1::JobStatus::SUCCEEDED);
  StepSums steps;
  for (const auto& [seconds, speed] : {std::pair(4., 10.), {0.5, 90.}, {1.5, 110.}}) {
    steps.Add(1, Step(seconds, speed));
  }
  metrics.Take("e1", "max_length 64", job, steps);
  EXPECT_THAT(metrics.Update(experiment, kNow), ::testing::IsEmpty()) << "it is known";
  const std::string text = Text();
  const std::string id =
      "experiment=\"again\",experiment_uid=\"e1\",job_name=\"tune\",job_uid=\"u1\"";
  EXPECT_THAT(text, HasSubstr(absl::StrCat(
                        "liger_experiment_job_info{batch_size=\"4\",dataset=\"alpaca\",", id,
                        ",kernels=\"LIGER\",model=\"smollm2\",point=\"max_length 64\","
                        "trainer=\"orpo\"} 1")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_experiment_job_timed_tokens_per_second{", id,
                                           "} 105")))
      << "without the first step";
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_experiment_job_mean_step_seconds{", id, "} 2")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_experiment_job_peak_memory_bytes{", id,
                                           ",kind=\"rss\"} 4096")));

  // A later one of its name has series of its own; one that is over has them a while.
  experiment = ExperimentWith("e2", "u1");
  EXPECT_THAT(metrics.Update(experiment, kNow), ::testing::ElementsAre(1));
  job.mutable_status()->set_state(liger::v1::JobStatus::FAILED);
  job.mutable_status()->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_OOM_DEVICE);
  metrics.Take("e2", "max_length 64", job, steps);
  EXPECT_THAT(Text(), HasSubstr("experiment_uid=\"e2\",failure=\"OOM_DEVICE\""));
  EXPECT_THAT(Text(), Not(HasSubstr("liger_experiment_job_peak_memory_bytes{experiment=\"again\","
                                    "experiment_uid=\"e2\"")));
  EXPECT_THAT(Text(), HasSubstr("experiment_uid=\"e1\",failure=\"\""));
  liger::v1::Experiment first = ExperimentWith("e1", "u1");
  first.set_state(liger::v1::Experiment::CANCELLED);
  metrics.Update(first, kNow);
  metrics.Sweep(kNow + JobMetrics::kRetention);
  EXPECT_THAT(Text(), Not(HasSubstr("experiment_uid=\"e1\"")));
  experiment.set_state(liger::v1::Experiment::SUCCEEDED);
  metrics.Update(experiment, kNow);
  metrics.Sweep(kNow + JobMetrics::kRetention - absl::Seconds(1));
  EXPECT_THAT(Text(), HasSubstr("u1"));
  metrics.Sweep(kNow + JobMetrics::kRetention);
  EXPECT_THAT(Text(), Not(HasSubstr("u1")));
}

TEST_F(MetricsTest, AJobThatWaitsHasTwoSeries) {
  JobMetrics metrics(registry_.get());
  liger::v1::Job job = RunningJob();
  job.mutable_status()->clear_progress();
  job.mutable_status()->set_state(liger::v1::JobStatus::QUEUED);
  metrics.Update(job, kNow);
  std::string names;
  for (const absl::string_view line : absl::StrSplit(Text(), '\n')) {
    if (absl::StrContains(line, "u1")) absl::StrAppend(&names, line.substr(0, line.find('{')), " ");
  }
  EXPECT_EQ(names, "liger_job_info liger_job_state ");
  job.mutable_status()->set_state(liger::v1::JobStatus::RUNNING);
  metrics.Update(job, kNow);
  const std::string id = "{job_name=\"tune\",job_uid=\"u1\"} 0";
  for (const char* name : {"tokens_total", "step_seconds_count", "idle_seconds"}) {
    EXPECT_THAT(Text(), HasSubstr(absl::StrCat("liger_job_", name, id)))
        << "from 0 on, for increase()";
  }
  metrics.Remove("u1");
  EXPECT_THAT(Text(), Not(HasSubstr("u1")));
}

TEST_F(MetricsTest, AJobIsInOneState) {
  JobMetrics metrics(registry_.get());
  liger::v1::Job job = RunningJob();
  metrics.Update(job, kNow);
  metrics.SetIdle("u1", absl::Seconds(42));
  const std::string id = "job_name=\"tune\",job_uid=\"u1\"";
  EXPECT_THAT(Text(), HasSubstr("liger_job_state{failure=\"\"," + id + ",state=\"RUNNING\"} 1"));
  EXPECT_THAT(Text(), HasSubstr("liger_job_idle_seconds{" + id + "} 42"));
  job.mutable_status()->set_state(liger::v1::JobStatus::FAILED);
  job.mutable_status()->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_NAN);
  metrics.Update(job, kNow);
  metrics.SetIdle("u1", absl::Seconds(43));  // of a heartbeat before the end
  EXPECT_THAT(Text(), Not(HasSubstr("RUNNING")));
  EXPECT_THAT(Text(), HasSubstr("liger_job_state{failure=\"NAN\"," + id + ",state=\"FAILED\"} 1"));
  EXPECT_THAT(Text(), HasSubstr("liger_job_idle_seconds{" + id + "} 0"));
}

TEST_F(MetricsTest, TokensAddUpOverAttemptsAndNeverFall) {
  JobMetrics metrics(registry_.get());
  liger::v1::Job job = RunningJob();
  metrics.Update(job, kNow);
  job.mutable_status()->set_epoch(2);
  job.mutable_status()->mutable_progress()->set_tokens_total(10);
  metrics.Update(job, kNow);
  EXPECT_THAT(Text(), HasSubstr("liger_job_tokens_total{job_name=\"tune\",job_uid=\"u1\"} 1010"));
  metrics.SetTokens("u1", 2, 5);
  metrics.SetTokens("u1", 2, 30);
  EXPECT_THAT(Text(), HasSubstr("liger_job_tokens_total{job_name=\"tune\",job_uid=\"u1\"} 1030"));
}

TEST_F(MetricsTest, TheTimedRateLeavesTheFirstLoggedStepOfAnAttemptOut) {
  JobMetrics metrics(registry_.get());
  metrics.Update(RunningJob(), kNow);
  const std::string series =
      "liger_job_timed_tokens_per_second{job_name=\"tune\",job_uid=\"u1\"} ";
  metrics.ObserveStep("u1", 1, Step(8, 10));
  EXPECT_THAT(Text(), HasSubstr(series + "10\n")) << "there is no other";
  metrics.ObserveStep("u1", 1, Step(1, 100));
  EXPECT_THAT(Text(), HasSubstr(series + "100\n"));
  metrics.ObserveStep("u1", 1, Step(3, 20));
  EXPECT_THAT(Text(), HasSubstr(series + "40\n")) << "160 tokens in 4 seconds";
  metrics.ObserveStep("u1", 2, Step(4, 5));
  EXPECT_THAT(Text(), HasSubstr(series + "5\n")) << "of the newest attempt";
  metrics.ObserveStep("u1", 2, Step(1, 50));
  metrics.ObserveStep("u1", 1, Step(1, 1000));
  EXPECT_THAT(Text(), HasSubstr(series + "50\n"));
}

TEST_F(MetricsTest, SeriesGoFiveMinutesAfterTheEnd) {
  JobMetrics metrics(registry_.get());
  liger::v1::Job job = RunningJob();
  metrics.Update(job, kNow);
  metrics.ObserveStep("u1", 1, Step(0.3, 90));
  job.mutable_status()->set_state(liger::v1::JobStatus::SUCCEEDED);
  job.mutable_end_time()->set_seconds(absl::ToUnixSeconds(kNow));
  metrics.Update(job, kNow);
  metrics.Sweep(kNow + absl::Minutes(4));
  EXPECT_THAT(Text(), HasSubstr("job_uid=\"u1\""));
  metrics.Sweep(kNow + absl::Minutes(5));
  EXPECT_THAT(Text(), Not(HasSubstr("u1")));
  // A restarted coordinator does not bring it back.
  metrics.Update(job, kNow + absl::Minutes(6));
  EXPECT_THAT(Text(), Not(HasSubstr("u1")));
}

TEST_F(MetricsTest, EveryStateIsPresentFromTheStart) {
  FleetMetrics metrics(registry_.get());
  EXPECT_THAT(Text(), HasSubstr("liger_jobs{state=\"QUEUED\"} 0"));
  EXPECT_THAT(Text(), HasSubstr("liger_gpus{state=\"free\"} 0"));
  metrics.SetJobs({{liger::v1::JobStatus::QUEUED, 3}});
  metrics.SetWorkers({{"READY", 2}});
  metrics.ObserveQueueWait(absl::Seconds(2));
  metrics.SetOldestWait(absl::Seconds(7));
  EXPECT_THAT(Text(), HasSubstr("liger_queue_oldest_wait_seconds 7"));
  EXPECT_THAT(Text(), HasSubstr("liger_jobs{state=\"QUEUED\"} 3"));
  EXPECT_THAT(Text(), HasSubstr("liger_workers{state=\"READY\"} 2"));
  EXPECT_THAT(Text(), HasSubstr("liger_queue_wait_seconds_sum 2"));
  metrics.SetJobs({});
  EXPECT_THAT(Text(), HasSubstr("liger_jobs{state=\"QUEUED\"} 0"));
}

// Every family at once, through the linter that Prometheus itself ships.
TEST_F(MetricsTest, PromtoolHasNoComplaint) {
  ASSERT_EQ(std::system("command -v promtool >/dev/null"), 0)
      << "promtool is not installed: run tools/setup";
  JobMetrics jobs(registry_.get());
  liger::v1::Job job = RunningJob();
  (*job.mutable_status()->mutable_progress()->mutable_values())["mfu"] = 0.4;
  jobs.Update(job, kNow);
  jobs.ObserveStep("u1", 1, Step(0.3, 90));
  FleetMetrics fleet(registry_.get());
  RpcMetrics rpcs(registry_.get());
  rpcs.Record("/liger.v1.FineTuning/GetJob", grpc::experimental::ServerRpcInfo::Type::UNARY,
              grpc::StatusCode::OK, 0.001);
  const std::string path = ::testing::TempDir() + "/metrics.txt";
  std::ofstream(path) << Text();
  EXPECT_EQ(std::system(absl::StrCat("promtool check metrics < ", path).c_str()), 0);
}

TEST_F(MetricsTest, ServesOnAFreePortAndSaysWhenOneIsTaken) {
  auto server = MetricsServer::Start("127.0.0.1:0", registry_);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_GT((*server)->port(), 0);
  const std::string address = absl::StrCat("127.0.0.1:", (*server)->port());
  const auto second = MetricsServer::Start(address, registry_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

}  // namespace
}  // namespace liger::server
