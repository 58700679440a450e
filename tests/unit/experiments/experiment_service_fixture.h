#ifndef LIGER_TESTS_UNIT_EXPERIMENTS_EXPERIMENT_SERVICE_FIXTURE_H_
#define LIGER_TESTS_UNIT_EXPERIMENTS_EXPERIMENT_SERVICE_FIXTURE_H_

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/experiments/experiment_service.h"
#include "tests/unit/jobs/job_service_fixture.h"

namespace liger::server {

// Experiments over a store, a job service and one worker, whose part the test plays.
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
    const liger::v1::Experiment experiment = Row(uid).experiment;
    return static_cast<int>(
        std::count_if(experiment.jobs().begin(), experiment.jobs().end(),
                      [](const liger::v1::ExperimentJob& job) { return job.cached(); }));
  }
  // Plays it to its end; what it takes from earlier ones it does not run.
  int CachedOfAll(const std::string& name) {
    const std::string uid = Create(Grid(name))->experiment().uid();
    PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
    EXPECT_EQ(Row(uid).state, liger::v1::Experiment::SUCCEEDED);
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
    EXPECT_EQ(Job(job_uid).status().state(), liger::v1::JobStatus::RUNNING);
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
    for (int i = 0; i < 40 && Row(uid).state == liger::v1::Experiment::RUNNING; ++i) {
      Tick();
      Tick();
      const liger::v1::Experiment experiment = Row(uid).experiment;
      for (const liger::v1::ExperimentJob& job : experiment.jobs()) {
        if (job.outcome() == liger::v1::ExperimentJob::ACTIVE) Play(job.job_uid(), failure);
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

}  // namespace liger::server

#endif  // LIGER_TESTS_UNIT_EXPERIMENTS_EXPERIMENT_SERVICE_FIXTURE_H_
