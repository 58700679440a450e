#include "server/experiments/experiment_service.h"

#include "server/errors/errors.h"
#include "tests/unit/jobs/job_service_fixture.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using liger::v1::JobStatus;
using ::testing::HasSubstr;

class ExperimentServiceTest : public JobServiceTest {
 protected:
  void SetUp() override {
    JobServiceTest::SetUp();
    Start();
    Hello("w");
  }
  void Start() {
    experiments = std::make_unique<ExperimentService>(store.get(), service.get(), options);
  }
  static liger::v1::ExperimentSpec Grid(const std::string& name = "grid") {
    liger::v1::ExperimentSpec spec;
    spec.set_name(name);
    *spec.mutable_job() = Spec();
    auto* axis = spec.add_grid();
    axis->set_field("training.max_length");
    axis->add_values("64");
    axis->add_values("128");
    return spec;
  }
  absl::StatusOr<liger::v1::CreateExperimentResponse> Create(
      const liger::v1::ExperimentSpec& spec) {
    absl::StatusOr<liger::v1::CreateExperimentResponse> out = absl::UnknownError("no answer");
    experiments->Create({"default", "user", spec, ""},
                        [&](auto response) { out = std::move(response); });
    return out;
  }
  ExperimentRow Row(const std::string& uid) {
    return *store->ReadAndWait<ExperimentRow>(
        [&](const ReadView& view) -> absl::StatusOr<ExperimentRow> {
          return *view.Experiment(uid);
        });
  }
  void Tick() {
    clock.Advance(absl::Seconds(1));
    service->Tick();
    experiments->Tick();
    AnswerLooks();
  }
  // As an agent does: it scans, tells what has changed, then answers.
  void AnswerLooks() {
    while (answers && !fleet.looks.empty()) {
      const auto [worker, id] = fleet.looks.back();
      fleet.looks.pop_back();
      if (!data_digest.empty()) ListFiles(worker);
      service->OnLooked(worker, id);
    }
  }
  void ListFiles(const std::string& worker) {
    std::vector<liger::worker::v1::InventoryItem> items(3);
    items[0].set_kind("model");
    items[0].set_uri("smollm2-135m");
    items[0].set_digest(model_digest);
    items[1].set_kind("dataset");
    items[1].set_uri("alpaca_en_demo.json");
    items[1].set_digest(data_digest);
    items[2].set_kind("code");
    items[2].set_digest(code_digest);
    service->OnInventory(worker, 1, items);
  }
  // A worker whose results can be found again.
  void HelloFromAKnownBuild(const std::string& worker = "w", const std::string& build = "1.0+abc") {
    liger::worker::v1::Hello hello;
    hello.set_worker_id(worker);
    hello.set_incarnation(1);
    hello.set_build(build);
    auto* device = hello.add_devices();
    device->set_uuid("cpu-0-" + worker);
    device->set_kind(liger::v1::DEVICE_KIND_CPU);
    device->set_model("a CPU");
    JobServiceTest::Hello(hello);
    data_digest = "sha256:old";
    ListFiles(worker);
  }
  int Cached(const std::string& uid) {
    const Experiment experiment = Row(uid).experiment;
    return static_cast<int>(std::count_if(experiment.jobs().begin(), experiment.jobs().end(),
                                          [](const ExperimentJob& job) { return job.cached(); }));
  }
  // Plays it to its end; what it takes from earlier ones it does not run.
  int CachedOfAll(const std::string& name) {
    const std::string uid = Create(Grid(name))->experiment().uid();
    PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
    EXPECT_EQ(Row(uid).state, Experiment::SUCCEEDED);
    return Cached(uid);
  }
  // What a trainer says of the files that it began with, those that are still there.
  std::map<std::string, std::string> Inputs() const {
    if (data_digest.empty()) return {};
    std::map<std::string, std::string> digests = {
        {"code", code_digest}, {"model files", model_digest}, {"dataset file", data_digest}};
    if (reads_clock) digests["clock"] = "read by the chat template";
    return digests;
  }
  // What was last started for that job: on one worker, or on several.
  std::vector<TaskStart> Started(const std::string& job_uid) const {
    std::vector<TaskStart> members;
    for (const TaskStart& start : fleet.starts) {
      if (start.ref.job_uid() != job_uid) continue;
      if (!members.empty() && members[0].ref.task_id() != start.ref.task_id()) members.clear();
      members.push_back(start);
    }
    return members;
  }
  void SendFrom(const TaskStart& member, int64_t seq, liger::worker::v1::TaskEvent event) {
    *event.mutable_ref() = member.ref;
    event.set_seq(seq);
    service->OnTaskEvent(member.worker_id, event);
  }
  // Its CHECK and its start.
  void Begin(const std::string& job_uid) {
    liger::worker::v1::TaskEvent checked;
    checked.mutable_check_result();
    SendFrom(Started(job_uid)[0], 1, checked);
    const std::vector<TaskStart> members = Started(job_uid);
    for (size_t i = 0; i < members.size(); ++i) {
      liger::worker::v1::TaskEvent started;
      started.mutable_started();
      if (i == 0) started.mutable_started()->mutable_ready()->set_device("cpu");
      SendFrom(members[i], 1, started);
    }
    EXPECT_EQ(Job(job_uid).status().state(), JobStatus::RUNNING);
  }
  // One that has begun, with these files, says so and ends with this.
  void End(const std::string& job_uid, const std::map<std::string, std::string>& began,
           liger::v1::FailureClass failure) {
    const std::vector<TaskStart> members = Started(job_uid);
    int64_t seq = 2;
    if (failure == liger::v1::FAILURE_CLASS_UNSPECIFIED) {
      liger::worker::v1::TaskEvent publish;
      auto* saved = publish.mutable_publish_request()->mutable_saved();
      saved->set_publication_id("final");
      saved->set_kind("model");
      saved->set_manifest_digest("sha256:x");
      SendFrom(members[0], seq++, publish);
    }
    liger::worker::v1::TaskEvent inputs;
    const std::map<std::string, std::string> now = Inputs();
    for (const auto& [name, digest] : began) {
      if (now.at(name) == digest) (*inputs.mutable_inputs()->mutable_digests())[name] = digest;
    }
    SendFrom(members[0], seq++, inputs);
    liger::worker::v1::TaskEvent exited;
    exited.mutable_exited()->mutable_failure()->set_class_(failure);
    exited.mutable_exited()->add_local_ranks()->set_exit_code(failure == 0 ? 0 : 1);
    for (const TaskStart& member : members)
      SendFrom(member, member.worker_id == members[0].worker_id ? seq : 2, exited);
  }
  // Begins the job and ends it with this.
  void Play(const std::string& job_uid, liger::v1::FailureClass failure = {}) {
    Begin(job_uid);
    const std::map<std::string, std::string> began = Inputs();
    Tick();  // it is seen running
    if (!edited_to.empty()) data_digest = std::exchange(edited_to, "");
    if (!rebuilt_to.empty()) code_digest = std::exchange(rebuilt_to, "");
    End(job_uid, began, failure);
  }
  // Plays every job until the experiment is over.
  void PlayAll(const std::string& uid, liger::v1::FailureClass failure = {}) {
    for (int i = 0; i < 40 && Row(uid).state == Experiment::RUNNING; ++i) {
      Tick();
      Tick();
      const Experiment experiment = Row(uid).experiment;
      for (const ExperimentJob& job : experiment.jobs()) {
        if (job.outcome() == ExperimentJob::ACTIVE) Play(job.job_uid(), failure);
      }
    }
  }

  std::unique_ptr<ExperimentService> experiments;
  bool answers = true;  // the worker, when it is to look
  // The worker's files as they are, which it tells when it looks; empty: as in Hello.
  std::string data_digest, model_digest = "sha256:model", code_digest = "sha256:code";
  bool reads_clock = false;
  // What the next job's data, and the trainer's program, become while it runs.
  std::string edited_to, rebuilt_to;
};

TEST_F(ExperimentServiceTest, RunsEveryJobAndSucceeds) {
  const auto created = Create(Grid());
  ASSERT_TRUE(created.ok()) << created.status();
  const std::string uid = created->experiment().uid();
  EXPECT_EQ(created->experiment().counts().jobs(), 4);
  PlayAll(uid);
  const ExperimentRow row = Row(uid);
  EXPECT_EQ(row.state, Experiment::SUCCEEDED) << row.experiment.DebugString();
  for (const ExperimentJob& job : row.experiment.jobs()) {
    EXPECT_EQ(job.outcome(), ExperimentJob::SUCCEEDED);
    const liger::v1::Job stored = Job(job.job_uid());
    EXPECT_EQ(stored.spec().labels().at("experiment"), "grid");
    EXPECT_EQ(stored.spec().labels().at("experiment_uid"), uid);
    EXPECT_EQ(stored.resolved_spec().kernels().mode(), job.kernels());
    EXPECT_EQ(stored.spec_hash(), job.spec_hash());
    EXPECT_EQ(stored.status().output_uri(), "") << "outputs are not kept";
  }
  // Asked for again until the worker says that it is done.
  EXPECT_EQ(std::set<std::string>(fleet.reclaimed.begin(), fleet.reclaimed.end()).size(), 4u);
}

TEST_F(ExperimentServiceTest, OutOfMemoryEverywhereIsStillAnAnswer) {
  const std::string uid = Create(Grid())->experiment().uid();
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).state, Experiment::SUCCEEDED);
  EXPECT_EQ(Row(uid).experiment.jobs(2).outcome(), ExperimentJob::OUT_OF_MEMORY);
}

TEST_F(ExperimentServiceTest, ANewServiceGoesOnWhereTheOldOneWas) {
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  Play(Row(uid).experiment.jobs(0).job_uid());
  Start();
  PlayAll(uid);
  EXPECT_EQ(Row(uid).state, Experiment::SUCCEEDED);
  const int jobs = *store->ReadAndWait<int>([](const ReadView& view) -> absl::StatusOr<int> {
    return static_cast<int>(view.ListJobs({"default", {}, 50, ""})->jobs.size());
  });
  EXPECT_EQ(jobs, 4) << "none twice";
}

TEST_F(ExperimentServiceTest, AFileThatWasJustEditedIsNotTheOneOfEarlierResults) {
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("first"), 0);
  EXPECT_EQ(CachedOfAll("again"), 4);
  // The coordinator has not heard of it when the experiment comes.
  data_digest = "sha256:edited";
  EXPECT_EQ(CachedOfAll("edited"), 0);
  EXPECT_EQ(CachedOfAll("edited-again"), 4);
  model_digest = "sha256:trained-on";
  EXPECT_EQ(CachedOfAll("model"), 0);
  data_digest = "sha256:old";
  model_digest = "sha256:model";
  EXPECT_EQ(CachedOfAll("as-it-was"), 4);
}

TEST_F(ExperimentServiceTest, AFileThatIsEditedWhileAJobRunsIsNotWhatItRead) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  edited_to = "sha256:edited";
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).experiment.jobs(0).result_key(), "-");
  EXPECT_THAT(Row(uid).experiment.jobs(1).result_key(), HasSubstr("sha256:edited"));
  EXPECT_EQ(CachedOfAll("again"), 2) << "the turn that began after it";
}

TEST_F(ExperimentServiceTest, AFileThatIsEditedBeforeTheStartIsWhatItRead) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  Tick();  // the first job is submitted, by what was listed then
  data_digest = "sha256:edited";
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_THAT(Row(uid).experiment.jobs(0).result_key(), HasSubstr("sha256:edited"));
  EXPECT_EQ(CachedOfAll("again"), 4);
  data_digest = "sha256:old";
  EXPECT_EQ(CachedOfAll("old"), 0);
}

TEST_F(ExperimentServiceTest, ATrainerThatIsReplacedIsAnotherOne) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  rebuilt_to = "sha256:rebuilt";  // and the agent goes on with the same Hello
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).experiment.jobs(0).result_key(), "-");
  EXPECT_EQ(CachedOfAll("again"), 2);
  code_digest = "sha256:another libtorch";
  EXPECT_EQ(CachedOfAll("libtorch"), 0);
}

TEST_F(ExperimentServiceTest, TextThatDependsOnTheDateIsNotTakenLater) {
  HelloFromAKnownBuild();
  reads_clock = true;
  EXPECT_EQ(CachedOfAll("first"), 0);
  EXPECT_EQ(CachedOfAll("again"), 0);
}

TEST_F(ExperimentServiceTest, AJobThatEndedUnseenIsTakenLater) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  const std::string job = Row(uid).experiment.jobs(0).job_uid();
  experiments.reset();  // a coordinator whose experiments stand still
  Begin(job);
  End(job, Inputs(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  Start();
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).experiment.jobs(0).job_uid(), job);
  EXPECT_EQ(CachedOfAll("again"), 4);
}

TEST_F(ExperimentServiceTest, AWorkerOfAnotherReleaseIsAnotherOne) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  while (Row(uid).experiment.jobs(1).outcome() != ExperimentJob::OUT_OF_MEMORY) {
    Tick();
    Tick();
    const Experiment experiment = Row(uid).experiment;
    for (const ExperimentJob& job : experiment.jobs()) {
      if (job.outcome() == ExperimentJob::ACTIVE) {
        Play(job.job_uid(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
      }
    }
    Tick();
  }
  // Between two of its turns.
  HelloFromAKnownBuild("w", "1.1+def");
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(CachedOfAll("upgraded"), 2) << "what ran since";
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("downgraded"), 2) << "what ran before";
}

TEST_F(ExperimentServiceTest, WhatSeveralWorkersRanIsRunAgain) {
  HelloFromAKnownBuild("w");
  HelloFromAKnownBuild("v");
  const auto gang = [](const std::string& name) {
    liger::v1::ExperimentSpec spec = Grid(name);
    spec.mutable_job()->mutable_resources()->set_count(2);
    return spec;
  };
  for (const char* name : {"first", "again"}) {
    const std::string uid = Create(gang(name))->experiment().uid();
    PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
    EXPECT_EQ(Row(uid).state, Experiment::SUCCEEDED);
    const Experiment experiment = Row(uid).experiment;
    for (const ExperimentJob& job : experiment.jobs()) {
      EXPECT_EQ(Started(job.job_uid()).size(), 2u);
      EXPECT_FALSE(job.cached());
      EXPECT_EQ(job.result_key(), "-");
    }
  }
  // Jobs of one worker are found again beside it.
  EXPECT_EQ(CachedOfAll("one"), 0);
  EXPECT_EQ(CachedOfAll("one-again"), 4);
}

TEST_F(ExperimentServiceTest, TwoAtOnceTakeOnlyWholeTurnsThatAreOver) {
  HelloFromAKnownBuild("w");
  HelloFromAKnownBuild("v");
  const std::string first = Create(Grid("first"))->experiment().uid();
  for (int i = 0; i < 4; ++i) Tick();
  Play(Row(first).experiment.jobs(0).job_uid(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  Tick();
  ASSERT_EQ(Row(first).experiment.jobs(0).outcome(), ExperimentJob::OUT_OF_MEMORY);
  // One side of the first's first turn is known; the other runs.
  const std::string second = Create(Grid("second"))->experiment().uid();
  for (int i = 0; i < 4; ++i) Tick();
  EXPECT_EQ(Cached(second), 0);
  EXPECT_EQ(Row(second).experiment.jobs(0).outcome(), ExperimentJob::ACTIVE);
  PlayAll(first, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(first).state, Experiment::SUCCEEDED);
  // The turn that had begun goes on; the next one has become known.
  PlayAll(second, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(second).state, Experiment::SUCCEEDED);
  const Experiment done = Row(second).experiment;
  EXPECT_FALSE(done.jobs(0).cached());
  EXPECT_FALSE(done.jobs(1).cached());
  EXPECT_EQ(done.jobs(2).job_uid(), Row(first).experiment.jobs(2).job_uid());
  EXPECT_EQ(done.jobs(3).job_uid(), Row(first).experiment.jobs(3).job_uid());
}

TEST_F(ExperimentServiceTest, AWorkerThatDoesNotLookHasNothingToTake) {
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("first"), 0);
  answers = false;
  const std::string uid = Create(Grid("again"))->experiment().uid();
  for (int i = 0; i < 8; ++i) Tick();
  EXPECT_EQ(Row(uid).experiment.jobs(0).outcome(), ExperimentJob::PENDING) << "it waits";
  for (int i = 0; i < 5; ++i) Tick();
  EXPECT_EQ(Row(uid).experiment.jobs(0).outcome(), ExperimentJob::ACTIVE);
  EXPECT_EQ(Cached(uid), 0);
  // It is not waited for again.
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  const std::string later = Create(Grid("later"))->experiment().uid();
  for (int i = 0; i < 4; ++i) Tick();
  EXPECT_EQ(Row(later).experiment.jobs(0).outcome(), ExperimentJob::ACTIVE);
}

TEST_F(ExperimentServiceTest, NobodyLooksWhereNothingIsTaken) {
  HelloFromAKnownBuild();
  liger::v1::ExperimentSpec spec = Grid();
  spec.set_reuse_results(false);
  const std::string uid = Create(spec)->experiment().uid();
  answers = false;
  Tick();
  Tick();
  Play(Row(uid).experiment.jobs(0).job_uid(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  Tick();
  EXPECT_TRUE(fleet.looks.empty());
  EXPECT_NE(Row(uid).experiment.jobs(0).result_key(), "-") << "a later one may";
}

TEST_F(ExperimentServiceTest, WaitsForAWorkerThatMayHaveTheResults) {
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("first"), 0);
  LoseWorker("w");
  const std::string uid = Create(Grid("again"))->experiment().uid();
  for (int i = 0; i < 5; ++i) Tick();
  const int64_t said = Row(uid).revision;
  for (int i = 0; i < 25; ++i) Tick();
  EXPECT_EQ(Row(uid).experiment.jobs(0).outcome(), ExperimentJob::PENDING);
  EXPECT_THAT(Row(uid).experiment.message(), HasSubstr("waits for a worker"));
  EXPECT_EQ(Row(uid).revision, said) << "once";
  HelloFromAKnownBuild();
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Cached(uid), 4);
}

TEST_F(ExperimentServiceTest, DeletedWhileItRunsItsJobIsCancelled) {
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  const std::string job = Row(uid).experiment.jobs(0).job_uid();
  ASSERT_NE(job, "");
  absl::Status deleted = absl::UnknownError("no answer");
  experiments->Delete("default", "user", "grid",
                      [&](const auto& response) { deleted = response.status(); });
  EXPECT_TRUE(deleted.ok());
  Tick();
  Tick();
  EXPECT_EQ(Job(job).status().state(), JobStatus::CANCELLED);
  EXPECT_EQ(Row(uid).state, Experiment::CANCELLED);
  EXPECT_TRUE(Create(Grid()).ok()) << "the name is free";
}

TEST_F(ExperimentServiceTest, SaysWhatIsWrongWithItsJobsOnce) {
  liger::v1::ExperimentSpec spec = Grid();
  spec.mutable_job()->mutable_training()->set_learning_rate(-1);
  spec.mutable_grid(0)->set_values(1, "1");
  const absl::Status status = Create(spec).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const std::vector<liger::v1::Violation> fields = ViolationsOf(status);
  ASSERT_EQ(fields.size(), 2u) << status;
  EXPECT_EQ(fields[0].field(), "job.training.learning_rate");
  EXPECT_EQ(fields[1].field(), "grid[0].values");
  EXPECT_THAT(fields[1].message(), HasSubstr("'1' of training.max_length"));
}

TEST_F(ExperimentServiceTest, PointsThatAreOneJobAreRefused) {
  liger::v1::ExperimentSpec spec = Grid();
  spec.mutable_grid(0)->set_field("training.learning_rate");
  spec.mutable_grid(0)->set_values(0, "1e-3");
  spec.mutable_grid(0)->set_values(1, "0.001");
  spec.set_runs(2);
  const absl::Status status = Create(spec).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const std::vector<liger::v1::Violation> fields = ViolationsOf(status);
  ASSERT_EQ(fields.size(), 1u) << status;
  EXPECT_EQ(fields[0].field(), "grid");
  EXPECT_THAT(fields[0].message(), HasSubstr("'learning_rate 1e-3' and 'learning_rate 0.001'"));
  spec.mutable_grid(0)->set_values(1, "0.002");
  EXPECT_TRUE(Create(spec).ok());
}

TEST_F(ExperimentServiceTest, ADryRunMakesNothing) {
  absl::StatusOr<liger::v1::CreateExperimentResponse> out = absl::UnknownError("no answer");
  experiments->Validate({"default", "user", Grid(), ""},
                        [&](auto response) { out = std::move(response); });
  auto checked = Event(1);
  checked.mutable_check_result()->add_checks_run("model");
  Send(checked);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->experiment().uid(), "");
  EXPECT_EQ(out->experiment().jobs_size(), 4);
  EXPECT_THAT(out->checks_run(), ::testing::Contains("model"));
  EXPECT_TRUE(Create(Grid()).ok());
  experiments->Validate({"default", "user", Grid(), ""},
                        [&](auto response) { out = std::move(response); });
  auto again = Event(1);
  again.mutable_check_result();
  Send(again);
  EXPECT_EQ(ReasonOf(out.status()), "EXPERIMENT_NAME_TAKEN");
}

}  // namespace
}  // namespace liger::server
