#ifndef LIGER_TESTS_UNIT_JOBS_JOB_SERVICE_FIXTURE_H_
#define LIGER_TESTS_UNIT_JOBS_JOB_SERVICE_FIXTURE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/jobs/job_service.h"
#include "server/store/store.h"

namespace liger::server {

// Notes what it is asked.
class FakeFleet : public FleetPort {
 public:
  bool IsConnected(const std::string& worker_id) const override {
    if (on_is_connected) on_is_connected();
    return connected.contains(worker_id);
  }
  bool TakesTasks(const std::string& worker_id) const override {
    return connected.contains(worker_id) && !draining.contains(worker_id);
  }
  std::string WhyUnfit(const std::string& worker_id) const override {
    const auto found = unfit.find(worker_id);
    return found == unfit.end() ? "" : found->second;
  }
  void Disconnect(const std::string& worker_id, const std::string& reason) override {
    disconnects.push_back(worker_id + " " + reason);
  }
  void StartGang(const std::vector<TaskStart>& members) override {
    starts.insert(starts.end(), members.begin(), members.end());
  }
  void StopTask(const TaskStop& stop, double grace, const std::string& reason) override {
    stops.push_back(stop.worker_id + " " + reason);
  }
  void PauseTask(const TaskStop& stop) override { pauses.push_back(stop.worker_id); }
  void AckEvents(const std::string&, const liger::trainer::v1::Ref&, int64_t seq) override {
    acks.push_back(seq);
  }
  void AnswerPublish(const PublishAnswer& answer) override { answers.push_back(answer); }
  void Look(const std::string& worker_id, int64_t id) override {
    looks.emplace_back(worker_id, id);
  }
  void Reclaim(const std::string& worker_id, const std::vector<ReclaimRow>& outputs) override {
    for (const ReclaimRow& output : outputs) {
      reclaimed.push_back(worker_id + " " + output.uri + " " + output.digest);
    }
  }

  std::set<std::string> connected, draining;
  std::map<std::string, std::string> unfit;
  std::function<void()> on_is_connected;
  std::vector<TaskStart> starts;
  std::vector<std::string> stops, pauses, reclaimed, disconnects;
  std::vector<std::pair<std::string, int64_t>> looks;  // worker and id
  std::vector<int64_t> acks;
  std::vector<PublishAnswer> answers;
};

// A JobService over a store in memory, with a fleet that a test scripts.
class JobServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options.clock = &clock;
    StoreOptions store_options{.synchronous = true};
    store_options.fail_commit = [this] {
      return failing_commits-- > 0 ? commit_error : absl::OkStatus();
    };
    store = NewMemoryStore(store_options);
    service = std::make_unique<JobService>(store.get(), &Catalog::Default(), options);
    ASSERT_TRUE(service->Start(&fleet).ok());
  }

  // gpu_bytes: of its only device, a GPU; 0: it has a CPU slot.
  void Hello(const std::string& id, bool with_files = true, int64_t gpu_bytes = 0) {
    liger::worker::v1::Hello hello;
    hello.set_worker_id(id);
    hello.set_incarnation(1);
    hello.set_model_root("/models");
    hello.set_dataset_root("/data");
    hello.set_output_root("/out");
    auto* device = hello.add_devices();
    device->set_uuid("cpu-0");
    device->set_kind(gpu_bytes == 0 ? liger::v1::DEVICE_KIND_CPU : liger::v1::DEVICE_KIND_CUDA);
    device->set_memory_bytes(gpu_bytes);
    const auto add = [&hello](const char* kind, const char* uri) {
      auto* item = hello.add_inventory();
      item->set_kind(kind);
      item->set_uri(uri);
    };
    add("dataset", "alpaca_en_demo.json");
    if (with_files) add("model", "smollm2-135m");
    Hello(hello);
  }
  void Hello(const liger::worker::v1::Hello& hello) {
    service->OnHello(hello, [&](absl::StatusOr<HelloAnswer> answer) {
      EXPECT_TRUE(answer.ok());
      fleet.connected.insert(hello.worker_id());
    });
  }
  void LoseWorker(const std::string& id) {
    fleet.connected.erase(id);
    service->OnWorkerLost(id, 1);
  }
  // Whatever a broken disk says, and for how many commits.
  void FailCommits(int count, absl::Status error = absl::UnavailableError("disk full")) {
    commit_error = std::move(error);
    failing_commits = count;
  }
  static liger::v1::JobSpec Spec() {
    liger::v1::JobSpec spec;
    spec.mutable_model()->set_name("smollm2-135m");
    spec.mutable_sft();
    return spec;
  }
  absl::StatusOr<JobService::SubmitResult> Submit(const liger::v1::JobSpec& spec,
                                                  bool validate_only = false) {
    absl::StatusOr<JobService::SubmitResult> out = absl::UnknownError("no answer");
    JobService::SubmitRequest request{.tenant = "default", .actor = "user", .spec = spec};
    auto done = [&out](absl::StatusOr<JobService::SubmitResult> result) { out = result; };
    if (validate_only) {
      service->Validate(request, done);
    } else {
      service->Submit(request, done);
    }
    return out;
  }
  liger::v1::Job Job(const std::string& uid) {
    return *store->ReadAndWait<liger::v1::Job>(
        [&](const ReadView& view) -> absl::StatusOr<liger::v1::Job> {
          return ToProto(view, *view.Job(uid));
        });
  }
  liger::worker::v1::TaskEvent Event(int64_t seq) {
    liger::worker::v1::TaskEvent event;
    *event.mutable_ref() = fleet.starts.back().ref;
    event.set_seq(seq);
    return event;
  }
  void Send(const liger::worker::v1::TaskEvent& event) { service->OnTaskEvent("w", event); }
  // A job that trains on worker w; event 1 is known.
  std::string Running() {
    const std::string uid = Submit(Spec())->job.uid();
    auto checked = Event(1);
    checked.mutable_check_result();
    Send(checked);
    auto started = Event(1);
    started.mutable_started()->mutable_ready()->add_kernels_ran()->set_op("rope");
    Send(started);
    EXPECT_EQ(Job(uid).status().state(), liger::v1::JobStatus::RUNNING);
    return uid;
  }

  // An attempt that was placed and not started yet.
  std::string Starting() {
    const std::string uid = Submit(Spec())->job.uid();
    auto checked = Event(1);
    checked.mutable_check_result();
    Send(checked);
    EXPECT_EQ(Job(uid).status().state(), liger::v1::JobStatus::STARTING);
    return uid;
  }

  FakeClock clock;
  JobServiceOptions options;
  FakeFleet fleet;
  int failing_commits = 0;
  absl::Status commit_error;
  std::unique_ptr<Store> store;
  std::unique_ptr<JobService> service;
};

}  // namespace liger::server

#endif  // LIGER_TESTS_UNIT_JOBS_JOB_SERVICE_FIXTURE_H_
