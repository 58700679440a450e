#ifndef LIGER_TESTS_UNIT_STORE_STORE_TESTING_H_
#define LIGER_TESTS_UNIT_STORE_STORE_TESTING_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "gtest/gtest.h"
#include "server/store/store.h"

namespace liger::server::testing {

// A folder that goes with the test.
class TempFolder {
 public:
  TempFolder()
      : path_(std::filesystem::temp_directory_path() / ("liger-test-" + RandomSuffix(10))) {}
  ~TempFolder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  const std::filesystem::path path_;
};

// The fields of a BadRequest are in the message.
inline std::string Refusal(const absl::StatusOr<CreateJob::Result>& result) {
  return result.status().code() == absl::StatusCode::kInvalidArgument
             ? std::string(result.status().message())
             : result.status().ToString();
}

inline CreateJob NewJob(const std::string& uid, const std::string& name) {
  CreateJob command;
  command.job.uid = uid;
  command.job.tenant = "default";
  command.job.name = name;
  command.job.method = "sft";
  command.job.model = "tiny";
  command.job.spec.set_name(name);
  command.job.spec.mutable_model()->set_name("tiny");
  command.job.spec.mutable_sft();
  liger::v1::JobSpec resolved = command.job.spec;
  resolved.mutable_model()->set_uri("tiny");
  resolved.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  resolved.mutable_resources()->set_count(1);
  resolved.mutable_output()->set_uri(name);
  command.job.resolved_spec = std::move(resolved);
  command.job.spec_hash = "sha256:0";
  return command;
}

inline liger::worker::v1::Hello NewHello(const std::string& worker_id, int64_t incarnation,
                                         int slots) {
  liger::worker::v1::Hello hello;
  hello.set_worker_id(worker_id);
  hello.set_incarnation(incarnation);
  hello.set_boot_id("boot");
  hello.set_model_root("/models");
  hello.set_output_root("/out");
  for (int i = 0; i < slots; ++i) {
    auto* device = hello.add_devices();
    device->set_uuid(worker_id + "-cpu-" + std::to_string(i));
    device->set_kind(liger::v1::DEVICE_KIND_CPU);
  }
  auto* item = hello.add_inventory();
  item->set_kind("model");
  item->set_uri("tiny");
  return hello;
}

inline void Own(liger::worker::v1::Hello* hello, const std::string& job_uid, int64_t epoch,
                const std::string& task_id, bool running, int64_t last_event_seq = 0) {
  auto* owned = hello->add_owned();
  owned->mutable_ref()->set_job_uid(job_uid);
  owned->mutable_ref()->set_epoch(epoch);
  owned->mutable_ref()->set_task_id(task_id);
  owned->set_running(running);
  owned->set_last_event_seq(last_event_seq);
}

// A report of one event.
inline ReportTask Report(const std::string& worker_id, const std::string& job_uid, int64_t epoch,
                         const std::string& task_id, int64_t seq) {
  ReportTask report;
  report.worker_id = worker_id;
  report.ref.set_job_uid(job_uid);
  report.ref.set_epoch(epoch);
  report.ref.set_task_id(task_id);
  report.first_seq = report.through_seq = seq;
  return report;
}

inline liger::trainer::v1::Saved SavedModel(const std::string& publication_id) {
  liger::trainer::v1::Saved saved;
  saved.set_publication_id(publication_id);
  saved.set_kind("model");
  saved.set_dir("output");
  saved.set_manifest_digest("sha256:abc");
  saved.set_bytes(1000);
  return saved;
}

inline TaskExit Succeeded() { return {.outcome = AttemptState::kSucceeded}; }
inline TaskExit Failed(liger::v1::FailureClass failure_class, const std::string& message,
                       bool retry) {
  TaskExit exit{.outcome = AttemptState::kFailed, .retry = retry};
  exit.failure.set_class_(failure_class);
  exit.failure.set_message(message);
  exit.failure.set_action("do something");
  return exit;
}

// A store with a clock that ticks with every command.
class Driver {
 public:
  explicit Driver(Store* store) : store_(store) {}

  template <typename C>
  absl::StatusOr<typename C::Result> Try(C command) {
    return store_->ApplyAndWait<C>(now_us += 1000, "test", std::move(command));
  }
  template <typename C>
  typename C::Result Do(C command) {
    absl::StatusOr<typename C::Result> result = Try(std::move(command));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : typename C::Result{};
  }
  template <typename R, typename Query>
  R Read(Query query) {
    return *store_->ReadAndWait<R>(
        [&query](const ReadView& view) -> absl::StatusOr<R> { return query(view); });
  }
  liger::v1::Job Job(const std::string& uid) {
    return Read<liger::v1::Job>(
        [&](const ReadView& view) { return ToProto(view, *view.Job(uid)); });
  }
  JobState State(const std::string& uid) { return Job(uid).status().state(); }
  int Occupied(const std::string& worker_id) {
    return Read<int>([&](const ReadView& view) {
      return static_cast<int>(view.UnreleasedMembers(worker_id).size());
    });
  }

  // Steps of a job's life.
  void Submit(const std::string& uid) { Do(NewJob(uid, "job-" + uid)); }
  void PassCheck(const std::string& uid, const std::string& worker_id) {
    const std::string task_id = "check-" + uid + RandomSuffix(4);
    Do(AssignCheck{uid, task_id, worker_id});
    ReportTask report = Report(worker_id, uid, 0, task_id, 1);
    report.check_result.emplace();
    Do(std::move(report));
    ReportTask exit = Report(worker_id, uid, 0, task_id, 2);
    exit.exit = Succeeded();
    Do(std::move(exit));
  }
  int64_t Place(const std::string& uid, const std::string& worker_id, int slot = 0,
                const std::string& resume_from = "") {
    return Do(StartAttempt{uid,
                           {{worker_id, {0}, {worker_id + "-cpu-" + std::to_string(slot)}}},
                           resume_from})
        .epoch;
  }
  void Begin(const std::string& uid, const std::string& worker_id, int64_t epoch) {
    ReportTask report = Report(worker_id, uid, epoch, "train", 1);
    report.started = true;
    Do(std::move(report));
  }
  // Submitted, checked, placed and RUNNING; event 1 is acknowledged.
  int64_t RunJob(const std::string& uid, const std::string& worker_id, int slot = 0) {
    Submit(uid);
    PassCheck(uid, worker_id);
    const int64_t epoch = Place(uid, worker_id, slot);
    Begin(uid, worker_id, epoch);
    EXPECT_EQ(State(uid), liger::v1::JobStatus::RUNNING);
    return epoch;
  }
  ReportTask::Result PublishModel(const std::string& uid, const std::string& worker_id,
                                  int64_t epoch, int64_t seq) {
    ReportTask report = Report(worker_id, uid, epoch, "train", seq);
    report.publish = SavedModel("final");
    return Do(std::move(report));
  }
  ReportTask::Result Exit(const std::string& uid, const std::string& worker_id, int64_t epoch,
                          int64_t seq, TaskExit exit) {
    ReportTask report = Report(worker_id, uid, epoch, "train", seq);
    report.exit = std::move(exit);
    return Do(std::move(report));
  }

  int64_t now_us = 1'700'000'000'000'000;

 private:
  Store* const store_;
};

}  // namespace liger::server::testing

#endif  // LIGER_TESTS_UNIT_STORE_STORE_TESTING_H_
