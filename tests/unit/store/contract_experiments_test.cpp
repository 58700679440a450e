// Experiments, their results, and what attempts ran on.

#include "gmock/gmock.h"
#include "server/errors/errors.h"
#include "tests/unit/store/contract.h"

namespace liger::server::testing {
namespace {

using liger::v1::Experiment;

class StoreExperiments : public StoreContract {
 protected:
  static CreateExperiment New(const std::string& uid, const std::string& name) {
    CreateExperiment command;
    command.row.uid = uid;
    command.row.tenant = "default";
    command.row.name = name;
    command.row.experiment.set_uid(uid);
    command.row.experiment.set_name(name);
    command.row.experiment.mutable_spec()->add_kernels(liger::v1::KERNEL_MODE_LIGER);
    command.row.experiment.add_points();
    command.row.experiment.add_jobs()->set_job_name(name + "-001");
    return command;
  }
  template <typename R>
  R Read(std::function<R(const ReadView&)> query) {
    return *store->ReadAndWait<R>(
        [&](const ReadView& view) -> absl::StatusOr<R> { return query(view); });
  }
  ExperimentRow Row(const std::string& uid) {
    return *Read<std::optional<ExperimentRow>>(
        [&](const ReadView& view) { return view.Experiment(uid); });
  }
  std::vector<std::string> ActiveUids() {
    return Read<std::vector<std::string>>([](const ReadView& view) {
      std::vector<std::string> uids;
      for (const ExperimentRow& row : view.ActiveExperiments()) uids.push_back(row.uid);
      return uids;
    });
  }
};
LIGER_STORE_CONTRACT(StoreExperiments);

TEST_P(StoreExperiments, CreatedOnceForARequestIdAndAName) {
  CreateExperiment command = New("e1", "grid");
  command.request_id = "r";
  command.body_hash = "h";
  command.request_expires_us = driver->now_us + 1'000'000'000;
  EXPECT_FALSE(driver->Do(command).existed);
  CreateExperiment again = New("e2", "grid");
  again.request_id = "r";
  again.body_hash = "h";
  EXPECT_EQ(driver->Do(again).experiment.uid(), "e1");
  again.body_hash = "other";
  EXPECT_EQ(ReasonOf(driver->Try(again).status()), "REQUEST_ID_REUSED");
  EXPECT_EQ(ReasonOf(driver->Try(New("e3", "grid")).status()), "EXPERIMENT_NAME_TAKEN");
  EXPECT_EQ(Row("e1").experiment.state(), Experiment::RUNNING);
  EXPECT_EQ(Row("e1").experiment.create_time().seconds(), driver->now_us / 1'000'000);
  driver->Do(DeleteExperiment{"default", "grid"});
  EXPECT_EQ(ReasonOf(driver->Try(command).status()), "REQUEST_ID_REUSED");
}

TEST_P(StoreExperiments, SavedOnlyOverTheRevisionThatWasSeen) {
  driver->Do(New("e1", "grid"));
  ExperimentRow row = Row("e1");
  row.experiment.mutable_jobs(0)->set_outcome(liger::v1::ExperimentJob::SUCCEEDED);
  row.experiment.set_state(Experiment::SUCCEEDED);
  SaveExperiment save{.uid = "e1", .revision = row.revision, .experiment = row.experiment};
  save.results.push_back({"default", "key", "job-1", 5});
  driver->Do(CancelExperiment{"default", "grid", "enough"});
  EXPECT_TRUE(absl::IsAborted(driver->Try(save).status()));
  EXPECT_EQ(Row("e1").state, Experiment::CANCELLING);
  save.revision = Row("e1").revision;
  driver->Do(save);
  EXPECT_EQ(Row("e1").state, Experiment::SUCCEEDED);
  EXPECT_TRUE(ActiveUids().empty());
  const auto results = [&](const std::string& key) {
    return Read<std::vector<std::string>>(
        [&](const ReadView& view) { return view.Results("default", key); });
  };
  EXPECT_EQ(results("key"), std::vector<std::string>{"job-1"});
  EXPECT_TRUE(results("another").empty());
}

TEST_P(StoreExperiments, DeletedWhileItRuns) {
  driver->Do(New("e1", "grid"));
  driver->Do(DeleteExperiment{"default", "grid"});
  EXPECT_EQ(ActiveUids(), std::vector<std::string>{"e1"}) << "its jobs are still to be cancelled";
  EXPECT_EQ(Row("e1").state, Experiment::CANCELLING);
  EXPECT_EQ(ReasonOf(driver->Try(CancelExperiment{"default", "grid", ""}).status()),
            "EXPERIMENT_NOT_FOUND");
  driver->Do(New("e2", "grid"));  // the name is free
}

TEST_P(StoreExperiments, ListedNewestFirstInPages) {
  for (const char* uid : {"e1", "e2", "e3"}) {
    driver->Do(New(uid, std::string("grid-") + uid));
    driver->now_us += 10;
  }
  ExperimentQuery query{"default", 2, ""};
  const auto list = [&] {
    return Read<ExperimentPage>([&](const ReadView& view) { return *view.ListExperiments(query); });
  };
  ExperimentPage page = list();
  ASSERT_EQ(page.experiments.size(), 2u);
  EXPECT_EQ(page.experiments[0].uid, "e3");
  query.page_token = page.next_page_token;
  page = list();
  ASSERT_EQ(page.experiments.size(), 1u);
  EXPECT_EQ(page.experiments[0].uid, "e1");
  EXPECT_EQ(page.next_page_token, "");
}

TEST_P(StoreExperiments, ThoseThatEndedLastComeFirst) {
  for (const char* uid : {"e1", "e2", "e3", "e4"}) driver->Do(New(uid, std::string("of-") + uid));
  const auto end = [&](const std::string& uid) {
    const ExperimentRow row = Row(uid);
    SaveExperiment save{.uid = uid, .revision = row.revision, .experiment = row.experiment};
    save.experiment.set_state(liger::v1::Experiment::SUCCEEDED);
    driver->Do(std::move(save));
  };
  for (const char* uid : {"e3", "e1", "e4"}) end(uid);
  driver->Do(DeleteExperiment{"default", "of-e4"});
  const auto ended = [&](int32_t limit) {
    std::vector<std::string> uids;
    for (const ExperimentRow& row : Read<std::vector<ExperimentRow>>(
             [&](const ReadView& view) { return view.EndedExperiments(limit); })) {
      uids.push_back(row.uid);
    }
    return uids;
  };
  EXPECT_EQ(ended(10), (std::vector<std::string>{"e1", "e3"}));
  EXPECT_EQ(ended(1), std::vector<std::string>{"e1"});
}

TEST_P(StoreExperiments, SurviveAReopening) {
  if (GetParam() == "memory") return;
  driver->Do(New("e1", "grid"));
  Open({});
  EXPECT_EQ(ActiveUids(), std::vector<std::string>{"e1"});
  EXPECT_EQ(Row("e1").experiment.jobs(0).job_name(), "grid-001");
}

TEST_P(StoreExperiments, AnAttemptSaysWhatItRunsOn) {
  AddWorker("w", 1);
  driver->Do(NewJob("u1", "job-u1"));
  driver->PassCheck("u1", "w");
  const int64_t epoch = driver->Place("u1", "w");
  ReportTask report = Report("w", "u1", epoch, "train", 1);
  report.started = true;
  report.ready.emplace();
  report.ready->set_device("cuda:0 H100");
  (*report.ready->mutable_versions())["torch"] = "2.10.0";
  (*report.ready->mutable_versions())["device/sm clock"] = "1980 MHz";
  driver->Do(std::move(report));
  ReportTask ending = Report("w", "u1", epoch, "train", 2);
  (*ending.inputs.emplace().mutable_digests())["dataset file"] = "sha256:d";
  driver->Do(std::move(ending));
  const auto environment = Read<std::optional<liger::v1::RunEnvironment>>(
      [&](const ReadView& view) { return view.Environment("u1", epoch); });
  ASSERT_TRUE(environment.has_value());
  EXPECT_EQ(environment->device(), "cuda:0 H100");
  EXPECT_EQ(environment->worker_id(), "w");
  EXPECT_EQ(environment->device_uuids(0), "w-cpu-0");
  EXPECT_EQ(environment->versions().at("torch"), "2.10.0");
  EXPECT_EQ(environment->versions().at("dataset file"), "sha256:d");
  EXPECT_FALSE(environment->versions().contains("model files")) << "it did not say";
  EXPECT_EQ(environment->device_state().at("sm clock"), "1980 MHz");
}

TEST_P(StoreExperiments, OutputsThatAreNotKeptAreReclaimed) {
  AddWorker("w", 1);
  driver->Do(New("e1", "grid"));
  const int64_t epoch = driver->RunJob("u1", "w");
  driver->PublishModel("u1", "w", epoch, 2);
  driver->Exit("u1", "w", epoch, 3, Succeeded());
  const ExperimentRow row = Row("e1");
  SaveExperiment save{.uid = "e1", .revision = row.revision, .experiment = row.experiment};
  save.reclaim_jobs = {"u1"};
  const auto result = driver->Do(save);
  ASSERT_EQ(result.reclaims.size(), 1u);
  EXPECT_EQ(result.reclaims[0].worker_id, "w");
  EXPECT_EQ(driver->Job("u1").status().output_uri(), "");
  EXPECT_THAT(driver->Job("u1").status().message(), ::testing::HasSubstr("keep_outputs"));
  EXPECT_EQ(driver->Job("u1").status().state(), liger::v1::JobStatus::SUCCEEDED);
}

}  // namespace
}  // namespace liger::server::testing
