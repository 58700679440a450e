#include "common/spec/spec.h"
#include "tests/unit/jobs/job_service_fixture.h"

namespace liger::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class DryRunTest : public JobServiceTest {
 protected:
  void SetUp() override {
    JobServiceTest::SetUp();
    Hello("w");
  }
  void TearDown() override { service.reset(); }  // answers into `results`
  std::function<void()> Validate() {
    return service->Validate(
        {.tenant = "default", .actor = "user", .spec = Spec()},
        [this](absl::StatusOr<JobService::SubmitResult> r) { results.push_back(std::move(r)); });
  }
  std::vector<absl::StatusOr<JobService::SubmitResult>> results;
};

TEST_F(JobServiceTest, ADryRunMakesNothing) {
  auto no_worker = Submit(Spec(), true);
  ASSERT_TRUE(no_worker.ok());
  EXPECT_THAT(no_worker->checks_skipped, ElementsAre("model", "data"));

  Hello("w");
  absl::StatusOr<JobService::SubmitResult> out = absl::UnknownError("no answer");
  const auto validate = [&] {
    service->Validate({.tenant = "default", .actor = "user", .spec = Spec()},
                      [&out](absl::StatusOr<JobService::SubmitResult> result) { out = result; });
  };
  validate();
  ASSERT_THAT(fleet.starts, SizeIs(1));
  EXPECT_EQ(fleet.starts[0].check_max_rows, options.validate_max_rows);
  EXPECT_EQ(fleet.starts[0].check_seconds, options.validate_row_seconds);
  auto good = Event(1);
  good.mutable_check_result()->add_checks_run("model");
  good.mutable_check_result()->add_formats("ALPACA of a.jsonl");
  good.mutable_check_result()->add_formats("TEXT of b.jsonl");
  good.mutable_check_result()->add_notices("8 optimizer steps, 2 epochs of 4 steps");
  Send(good);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_THAT(out->notices, Contains("formats: ALPACA of a.jsonl, TEXT of b.jsonl"));
  EXPECT_THAT(out->notices, Contains("8 optimizer steps, 2 epochs of 4 steps"));
  EXPECT_THAT(out->checks_run, ElementsAre("spec", "catalog", "model"));
  EXPECT_EQ(out->job.uid(), "");

  validate();
  auto bad = Event(1);
  auto* violation = bad.mutable_check_result()->add_violations();
  violation->set_field("dataset.uri");
  violation->set_message("row 17 is not JSON");
  violation = bad.mutable_check_result()->add_violations();
  violation->set_field("dataset.eval_uri");
  violation->set_file("alpaca-en-dem");
  violation->set_message("'alpaca-en-dem' does not exist");
  Send(bad);
  EXPECT_THAT(out.status().message(), HasSubstr("row 17 is not JSON"));
  EXPECT_THAT(out.status().message(), HasSubstr("near: alpaca-en-demo"));

  validate();
  LoseWorker("w");
  EXPECT_EQ(out.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store
                ->ReadAndWait<size_t>([](const ReadView& v) -> absl::StatusOr<size_t> {
                  return v.ActiveJobs().size();
                })
                .value(),
            0u);
}

TEST_F(JobServiceTest, ADryRunWithoutAnAnswerEnds) {
  Hello("w");
  absl::Status status;
  service->Validate({.tenant = "default", .actor = "user", .spec = Spec()},
                    [&](absl::StatusOr<JobService::SubmitResult> r) { status = r.status(); });
  clock.Advance(absl::Seconds(61));
  service->Tick();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(fleet.stops, ElementsAre("w TIMED_OUT"));
}

TEST_F(DryRunTest, WhatTheUserCanMendIsAboutTheRequest) {
  Validate();
  auto exited = Event(1);
  auto* failure = exited.mutable_exited()->mutable_failure();
  failure->set_class_(liger::v1::FAILURE_CLASS_CONFIG);
  failure->set_field("output.uri");
  failure->set_message("output.uri: 'x' exists already");
  failure->set_action("Choose another output.uri");
  Send(exited);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(results[0].status().message(),
            "output.uri: 'x' exists already; choose another output.uri");

  Validate();
  exited.mutable_exited()->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_INFRA);
  *exited.mutable_ref() = fleet.starts.back().ref;
  Send(exited);
  EXPECT_EQ(results.at(1).status().code(), absl::StatusCode::kUnavailable);
}

// The rest is checked, at a place that the other job does not hold.
TEST_F(DryRunTest, ATakenNameIsAWarning) {
  liger::v1::JobSpec spec = Spec();
  spec.set_name("taken");
  ASSERT_TRUE(Submit(spec).ok());
  const auto validate = [&] {
    service->Validate(
        {.tenant = "default", .actor = "user", .spec = spec},
        [this](absl::StatusOr<JobService::SubmitResult> r) { results.push_back(std::move(r)); });
  };
  validate();
  EXPECT_THAT(fleet.starts.back().resolved_spec.output().uri(), ::testing::StartsWith("taken-"));
  auto bad = Event(1);
  auto* violation = bad.mutable_check_result()->add_violations();
  violation->set_field("dataset.uri");
  violation->set_message("row 17 is not JSON");
  Send(bad);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_THAT(results[0].status().message(), HasSubstr("row 17 is not JSON"));

  validate();
  auto good = Event(1);
  good.mutable_check_result()->add_warnings()->set_message("an answer is empty");
  Send(good);
  ASSERT_THAT(results, SizeIs(2));
  ASSERT_TRUE(results[1].ok()) << results[1].status();
  EXPECT_EQ(results[1]->job.resolved_spec().output().uri(), "taken");
  ASSERT_THAT(results[1]->warnings, SizeIs(2));
  const liger::v1::Warning& warning = results[1]->warnings[1];
  EXPECT_EQ(warning.code(), "NameTaken");
  EXPECT_EQ(warning.field(), "name");
  EXPECT_THAT(warning.message(), HasSubstr("a job named 'taken' exists"));
  EXPECT_THAT(warning.message(), HasSubstr("--name"));
  EXPECT_THAT(warning.message(), HasSubstr("liger-cli delete taken"));

  // A place that the user names is meant.
  spec.mutable_output()->set_uri("taken");
  validate();
  EXPECT_EQ(fleet.starts.back().resolved_spec.output().uri(), "taken");
  auto placed = Event(1);
  placed.mutable_check_result();
  Send(placed);
  EXPECT_THAT(results.at(2).status().message(), HasSubstr("is the output of job 'taken'"));
}

// A retry of the request that made the job is answered with it, whatever else holds its name.
TEST_F(DryRunTest, TheRequestThatMadeTheJobIsNoOther) {
  liger::v1::JobSpec spec = Spec();
  spec.set_name("mine");
  const JobService::SubmitRequest request{"default", "user", spec, "request-1"};
  const auto done = [this](absl::StatusOr<JobService::SubmitResult> r) {
    results.push_back(std::move(r));
  };
  service->Submit(request, done);
  results.clear();
  const size_t starts = fleet.starts.size();
  service->Validate(request, done);
  EXPECT_EQ(fleet.starts.size(), starts) << "its output is there, and no obstacle";
  ASSERT_THAT(results, SizeIs(1));
  ASSERT_TRUE(results[0].ok()) << results[0].status();
  EXPECT_THAT(results[0]->warnings, IsEmpty());
  EXPECT_THAT(results[0]->notices, Contains(HasSubstr("'request-1' made the job 'mine'")));

  JobService::SubmitRequest other = request;
  other.spec.mutable_training()->set_max_steps(7);
  service->Validate(other, done);
  EXPECT_EQ(results.at(1).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(DryRunTest, WhatTheCheckWarnsOfIsSaid) {
  liger::v1::JobSpec spec = Spec();
  spec.mutable_training()->set_eval_steps(5);
  service->Validate(
      {.tenant = "default", .actor = "user", .spec = spec},
      [this](absl::StatusOr<JobService::SubmitResult> r) { results.push_back(std::move(r)); });
  auto checked = Event(1);
  for (const auto& of_spec : SpecWarnings(fleet.starts.back().resolved_spec)) {
    *checked.mutable_check_result()->add_warnings() = of_spec;  // as a trainer does
  }
  liger::v1::Warning& of_rows = *checked.mutable_check_result()->add_warnings();
  of_rows.set_code("Data");
  of_rows.set_field("dataset");
  of_rows.set_message("in 2 of 10 training rows tokens merge");
  Send(checked);
  ASSERT_THAT(results, SizeIs(1));
  std::vector<std::string> said;
  for (const auto& warning : results[0]->warnings) {
    said.push_back(warning.code() + " " + warning.field() + " " + warning.message());
  }
  EXPECT_THAT(said, ElementsAre(HasSubstr("NoEffect training.eval_steps"),
                                "Data dataset in 2 of 10 training rows tokens merge"));
}

TEST_F(DryRunTest, RowsAndPacksAreSaid) {
  Validate();
  auto checked = Event(1);
  auto& stats = *checked.mutable_check_result()->mutable_stats();
  stats["rows"] = 360;
  stats["packs"] = 137;
  stats["truncated_rows"] = 10;
  stats["tokens"] = 69068;
  stats["target_tokens"] = 51345;
  stats["eval_rows"] = 1;
  stats["eval_packs"] = 1;
  stats["eval_tokens"] = 8;
  Send(checked);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_THAT(results[0]->notices,
              Contains("training: 360 rows in 137 packs, 0 dropped, 10 cut to max_length; 69068 "
                       "tokens, 51345 of them trained on"));
  EXPECT_THAT(results[0]->notices, Contains(HasSubstr("evaluation: 1 row in 1 pack, 0 dropped")));
}

// Pairs that kto makes two rows of each are counted as pairs where the file is meant.
TEST_F(DryRunTest, HowFarTheCheckCameIsSaidInTheFilesRows) {
  Validate();
  auto checked = Event(1);
  auto& stats = *checked.mutable_check_result()->mutable_stats();
  stats["rows"] = 10;
  stats["pairs"] = 5;
  stats["unread_rows"] = 90;
  stats["eval_rows"] = 4;
  Send(checked);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_THAT(results[0]->notices, Contains(HasSubstr("the first 5 of about 95 training rows")));
  EXPECT_THAT(results[0]->notices, Not(Contains(HasSubstr("evaluation rows"))));
}

// Predicted by the CHECK, which takes no device.
TEST_F(JobServiceTest, AJobThatFitsOnNoDeviceIsRefused) {
  constexpr int64_t kGB = 1000000000;
  Hello("w", true, 24 * kGB);
  const auto check = [&](int64_t least, int64_t peak) {
    auto checked = Event(1);
    auto& stats = *checked.mutable_check_result()->mutable_stats();
    stats["single_1_least_bytes"] = least;
    stats["single_1_peak_bytes"] = peak;
    stats["shared_4_least_bytes"] = least / 3;
    return checked;
  };
  std::vector<absl::StatusOr<JobService::SubmitResult>> results;
  const auto dry_run = [&](int64_t least, int64_t peak) {
    service->Validate({.tenant = "default", .actor = "user", .spec = Spec()},
                      [&](auto result) { results.push_back(std::move(result)); });
    Send(check(least, peak));
  };
  dry_run(30 * kGB, 40 * kGB);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(results[0].status().message(),
              testing::AllOf(HasSubstr("parallel.strategy: on 1 GPU the job holds at "
                                       "least 30.00 GB"),
                             HasSubstr("the largest there has 24.00 GB"),
                             HasSubstr("set parallel.strategy FSDP and resources.count 4 (10.00 "
                                       "GB on each)")));
  dry_run(20 * kGB, 40 * kGB);
  ASSERT_TRUE(results.at(1).ok());
  ASSERT_THAT(results[1]->warnings, SizeIs(1));
  EXPECT_EQ(results[1]->warnings[0].code(), "DeviceMemory");
  EXPECT_THAT(results[1]->warnings[0].message(), HasSubstr("predicted to take 40.00 GB"));

  const std::string uid = Submit(Spec())->job.uid();
  Send(check(30 * kGB, 0));
  EXPECT_EQ(Job(uid).status().state(), liger::v1::JobStatus::QUEUED);
  EXPECT_EQ(Job(uid).status().reason(), "DeviceMemory") << "another worker may be starting";
  const auto passes = [&](double seconds) {
    clock.Advance(absl::Seconds(seconds));
    service->Tick();
  };
  passes(options.absent_grace_seconds - 5);
  EXPECT_EQ(Job(uid).status().state(), liger::v1::JobStatus::QUEUED);
  passes(6);
  EXPECT_EQ(Job(uid).status().state(), liger::v1::JobStatus::FAILED);
  EXPECT_EQ(Job(uid).status().failure().class_(), liger::v1::FAILURE_CLASS_CONFIG);
  EXPECT_EQ(Job(uid).status().failure().field(), "parallel.strategy");
  EXPECT_THAT(Job(uid).status().failure().message(), HasSubstr("at least 30.00 GB"));
  EXPECT_EQ(fleet.starts.back().kind, liger::trainer::v1::TASK_KIND_CHECK) << "no device taken";

  // One that a worker can take that comes in time is not refused, and the next one waits anew.
  const std::string waits = Submit(Spec())->job.uid();
  Send(check(30 * kGB, 0));
  passes(options.absent_grace_seconds - 5);
  Hello("larger", true, 40 * kGB);
  EXPECT_EQ(Job(waits).status().state(), liger::v1::JobStatus::STARTING);
  EXPECT_EQ(fleet.starts.back().worker_id, "larger");
}

// The scheduler knows a GPU's whole memory, the trainer what the driver leaves of it: a job between
// the two is started once.
TEST_F(JobServiceTest, AJobThatTheTrainerRefusesForMemoryIsNotTriedAgain) {
  constexpr int64_t kGB = 1000000000;
  Hello("w", true, 24 * kGB);
  const std::string uid = Submit(Spec())->job.uid();
  auto checked = Event(1);
  (*checked.mutable_check_result()->mutable_stats())["single_1_least_bytes"] = 24 * kGB - 1000;
  Send(checked);
  ASSERT_EQ(Job(uid).status().state(), liger::v1::JobStatus::STARTING);
  const size_t starts = fleet.starts.size();
  auto exited = Event(1);
  auto* failure = exited.mutable_exited()->mutable_failure();
  failure->set_class_(liger::v1::FAILURE_CLASS_CONFIG);
  failure->set_message("a rank holds 24.00 GB, and its device has 23.50 GB for programs");
  exited.mutable_exited()->add_local_ranks()->set_exit_code(3);
  Send(exited);
  clock.Advance(absl::Minutes(5));
  service->Tick();
  const liger::v1::Job job = Job(uid);
  EXPECT_EQ(job.status().state(), liger::v1::JobStatus::FAILED);
  EXPECT_EQ(job.status().failure().message(), failure->message());
  EXPECT_EQ(job.status().restarts(), 0);
  EXPECT_EQ(fleet.starts.size(), starts);
}

TEST_F(DryRunTest, TheyAreBoundedOnAWorkerAndTakeTheSlotsOfChecks) {
  for (int i = 0; i < 3; ++i) Validate();
  EXPECT_THAT(fleet.starts, SizeIs(2));
  EXPECT_THAT(results, IsEmpty()) << "it waits for a moment";
  clock.Advance(absl::Seconds(6));
  service->Tick();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_THAT(results[0]->checks_skipped, ElementsAre("model", "data"));
  EXPECT_THAT(results[0]->notices, Contains(HasSubstr("not checked on a worker")));
  const std::string uid = Submit(Spec())->job.uid();
  EXPECT_EQ(Job(uid).status().reason(), "CheckSlotsBusy");
  auto checked = Event(1);
  checked.mutable_check_result();
  Send(checked);
  EXPECT_THAT(fleet.starts, SizeIs(3)) << "the job's check";
}

TEST_F(DryRunTest, TheyLeaveTheSlotsOfJobsChecksAlone) {
  ASSERT_TRUE(Submit(Spec()).ok());
  ASSERT_TRUE(Submit(Spec()).ok());
  ASSERT_THAT(fleet.starts, SizeIs(2)) << "both slots of the worker";
  Validate();
  const auto give_up = Validate();
  service->Tick();
  EXPECT_THAT(fleet.starts, SizeIs(2));
  EXPECT_THAT(results, IsEmpty());
  give_up();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kCancelled);
  auto checked = Event(1);
  checked.mutable_check_result();
  Send(checked);
  const size_t before = fleet.starts.size();
  service->Tick();
  EXPECT_EQ(fleet.starts.size(), before + 1) << "a slot is free again";
  EXPECT_THAT(results, SizeIs(1));
}

TEST_F(DryRunTest, AClientThatGoesTakesItsCheckAlong) {
  const auto give_up = Validate();
  give_up();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(fleet.stops, ElementsAre("w CANCELLED"));
  give_up();
  EXPECT_THAT(fleet.stops, SizeIs(1));
}

TEST_F(DryRunTest, AWorkerThatComesBackWithoutItEndsIt) {
  Validate();
  liger::worker::v1::Hello hello;
  hello.set_worker_id("w");
  hello.set_incarnation(1);
  *hello.add_owned()->mutable_ref() = fleet.starts.back().ref;
  Hello(hello);
  EXPECT_THAT(results, IsEmpty()) << "it goes on";
  hello.clear_owned();
  Hello(hello);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DryRunTest, StopAnswersThoseUnderWayAndThoseToCome) {
  Validate();
  service->Stop();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kUnavailable);
  Validate();
  EXPECT_THAT(results, SizeIs(2));
}

}  // namespace
}  // namespace liger::server
