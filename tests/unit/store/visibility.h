#ifndef LIGER_TESTS_UNIT_STORE_VISIBILITY_H_
#define LIGER_TESTS_UNIT_STORE_VISIBILITY_H_

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "server/store/outputs.h"
#include "tests/unit/store/contract.h"

namespace liger::server::testing {

inline constexpr char kPlace[] = "/out/job-u.checkpoints/";

// w1 and w2 share an output root and tell what becomes of their publications.
class StoreVisibility : public StoreContract {
 protected:
  void SetUp() override {
    StoreContract::SetUp();
    for (const char* id : {"w1", "w2"}) driver->Do(ReconcileWorker{Telling(id)});
  }
  static liger::worker::v1::Hello Telling(const std::string& worker_id) {
    liger::worker::v1::Hello hello = NewHello(worker_id, 1, 2);
    hello.set_tells_publications(true);
    return hello;
  }
  // RUNNING on w1, with two checkpoints kept.
  void RunJob() {
    CreateJob command = NewJob("u", "job-u");
    command.job.resolved_spec.mutable_training()->set_save_steps(10);
    command.job.resolved_spec.mutable_training()->set_save_total_limit(2);
    driver->Do(command);
    driver->PassCheck("u", "w1");
    Begin("w1");
  }
  // A new attempt, from what the scheduler would take.
  void Begin(const std::string& worker_id) {
    worker_ = worker_id;
    seq_ = 0;
    epoch_ = driver->Place("u", worker_id, 0, Newest());
    ReportTask started = Next();
    started.started = true;
    started.ready.emplace();
    driver->Do(started);
  }
  ReportTask Next() { return Report(worker_, "u", epoch_, "train", ++seq_); }
  ReportTask Request(int64_t step) {
    ReportTask report = Next();
    report.publish = SavedModel(step == 0 ? "final" : CheckpointName(step));
    report.publish->set_step(step);
    report.publish->set_manifest_digest(absl::StrCat("sha256:", epoch_, "-", step));
    if (step > 0) report.publish->set_kind("checkpoint");
    return report;
  }
  std::optional<PublishAnswer> Ask(int64_t step) { return driver->Do(Request(step)).publish; }
  // step 0: of the model.
  ReportTask Outcome(int64_t step, const std::string& error = "") {
    ReportTask report = Next();
    report.publication.emplace();
    report.publication->set_publication_id(step == 0 ? "final" : CheckpointName(step));
    report.publication->set_error(error);
    report.publication->set_storage(!error.empty());
    return report;
  }
  ReportTask::Result Tell(int64_t step, const std::string& error = "") {
    return driver->Do(Outcome(step, error));
  }
  // Of an attempt that is over: its checkpoint is there.
  void TellLate(const std::string& worker_id, int64_t epoch, int64_t seq, int64_t step) {
    ReportTask late = Report(worker_id, "u", epoch, "train", seq);
    late.publication.emplace();
    late.publication->set_publication_id(CheckpointName(step));
    driver->Do(late);
  }
  // The trainer sets a checkpoint aside.
  void FindDamaged(int64_t step) {
    ReportTask warned = Next();
    liger::v1::Warning& warning = warned.warnings.emplace_back();
    warning.set_code(kNotResumedCode);
    warning.set_message("its digest differs");
    warning.set_file(absl::StrCat(kPlace, CheckpointName(step), ".damaged"));
    driver->Do(warned);
  }
  void Publish(int64_t step) {
    EXPECT_TRUE(Ask(step)->granted);
    Tell(step);
  }
  // As its worker tells of the running attempt.
  void TakeSteps() { driver->Do(AppendMetrics{{{"u", epoch_, 1, 5, "blob"}}}); }
  std::vector<int64_t> Visible() {
    return driver->Read<std::vector<int64_t>>([](const ReadView& view) {
      std::vector<int64_t> steps;
      for (const ArtifactRow& row : view.Artifacts("default", "u")) {
        if (row.visible) steps.push_back(row.step);
      }
      std::sort(steps.begin(), steps.end());
      return steps;
    });
  }
  std::string Newest() {
    return driver->Read<std::string>(
        [](const ReadView& view) { return NewestCheckpoint(view, *view.Job("u")); });
  }
  std::vector<std::string> Warnings(const std::string& code) {
    std::vector<std::string> messages;
    const liger::v1::Job job = driver->Job("u");
    for (const auto& warning : job.status().warnings()) {
      if (warning.code() == code) messages.push_back(warning.message());
    }
    return messages;
  }
  int64_t Events(const std::string& type, const std::string& reason) {
    return driver->Read<int64_t>([&](const ReadView& view) {
      const auto events = view.Events("u", 0, 0);
      return std::count_if(events.begin(), events.end(), [&](const liger::v1::JobEvent& event) {
        return event.type() == type && event.reason() == reason;
      });
    });
  }

  std::string worker_;
  int64_t epoch_ = 0, seq_ = 0;
};

}  // namespace liger::server::testing

#endif  // LIGER_TESTS_UNIT_STORE_VISIBILITY_H_
