// A seeded simulator drives the job logic, the scheduler and the store with
// workers that join, leave and die, cancels, lost acknowledgements and restarts
// of the coordinator, and checks the invariants I1 to I7 after each step.

#include <map>
#include <set>

#include "gtest/gtest.h"
#include "server/store/store.h"
#include "tests/unit/jobs/sim_fleet.h"

namespace liger::server::testing {
namespace {

using liger::v1::JobStatus;

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : fleet_(3, seed), store_(NewMemoryStore({.synchronous = true})) {
    Restart();
  }

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      Step();
      CheckInvariants();
    }
    Settle();
  }

 private:
  int64_t NowUs() const { return absl::ToUnixMicros(clock_.Now()); }

  // The coordinator comes back over the same store: every session is gone.
  void Restart() {
    if (service_ != nullptr) service_->Stop();
    for (auto& [id, worker] : fleet_.workers()) {
      fleet_.Disconnect(&worker, NowUs());
      worker.silent_since_us = NowUs();
    }
    JobServiceOptions options;
    options.clock = &clock_;
    options.new_id = [this] { return "id" + std::to_string(++ids_); };
    service_ = std::make_unique<JobService>(store_.get(), &Catalog::Default(), options);
    fleet_.service = service_.get();
    ASSERT_TRUE(service_->Start(&fleet_).ok());
  }

  void Submit() {
    JobService::SubmitRequest request{.tenant = "default", .actor = "user"};
    request.spec.mutable_model()->set_name("/models/any");
    request.spec.mutable_dataset()->set_name("/data/any.json");
    request.spec.mutable_sft();
    int number = static_cast<int>(acknowledged_.size());
    if (fleet_.Chance(0.2) && number > 0) {
      const int again = fleet_.Below(number);
      if (!gangs_.contains(again)) number = again;
    }
    request.request_id = "request-" + std::to_string(number);
    request.spec.set_name("job-" + std::to_string(number));
    service_->Submit(request, [&](absl::StatusOr<JobService::SubmitResult> result) {
      ASSERT_TRUE(result.ok()) << result.status();
      if (number < static_cast<int>(acknowledged_.size())) {
        EXPECT_EQ(result->job.uid(), acknowledged_[number]) << "I2";
      } else {
        acknowledged_.push_back(result->job.uid());
      }
    });
  }

  // As Submit, of a job on several devices, without what the API says to those.
  void SubmitGang(int count) {
    liger::v1::JobSpec spec;
    spec.mutable_model()->set_name("/models/any");
    spec.mutable_dataset()->set_name("/data/any.json");
    spec.mutable_sft();
    const int number = static_cast<int>(acknowledged_.size());
    spec.set_name("job-" + std::to_string(number));
    absl::StatusOr<ResolvedSpec> resolved = service_->Resolve(spec);
    if (!resolved.ok()) return;  // no worker has a CPU slot just now
    resolved->spec.mutable_resources()->set_count(count);
    CreateJob command;
    command.job.uid = "id" + std::to_string(++ids_);
    command.job.tenant = "default";
    command.job.name = spec.name();
    command.job.spec = spec;
    command.job.resolved_spec = resolved->spec;
    gangs_.insert(number);
    ASSERT_TRUE(store_->ApplyAndWait<CreateJob>(NowUs(), "user", command).ok());
    acknowledged_.push_back(command.job.uid);
  }

  const std::string& AnyJob() {
    return acknowledged_[fleet_.Below(static_cast<int>(acknowledged_.size()))];
  }

  void Step() {
    clock_.Advance(absl::Milliseconds(200 + fleet_.Below(800)));
    const int dice = fleet_.Below(100);
    SimFleet::Worker* worker = fleet_.AnyWorker();
    if (dice < 8 && acknowledged_.size() < 40) {
      Submit();
    } else if (dice < 12 && acknowledged_.size() < 40) {
      SubmitGang(2 + fleet_.Below(3));  // at most what there is
    } else if (dice > 93 && !acknowledged_.empty()) {
      // Refused in some states.
      const auto done = [](const absl::StatusOr<liger::v1::Job>&) {};
      if (dice > 96) {
        service_->Pause("default", "user", AnyJob(), "", done);
      } else {
        service_->Resume("default", "user", AnyJob(), done);
      }
    } else if (dice < 16 && !acknowledged_.empty()) {
      service_->Cancel("default", "user", AnyJob(), "", [](absl::StatusOr<liger::v1::Job> job) {
        EXPECT_TRUE(job.ok()) << job.status();
      });
    } else if (dice < 19) {
      fleet_.Disconnect(worker, NowUs());
    } else if (dice < 21) {
      fleet_.Kill(worker, NowUs());
    } else if (dice < 40) {
      fleet_.Connect(worker, NowUs());
    } else if (dice < 41) {
      Restart();
    } else if (dice < 43) {
      clock_.Advance(absl::Seconds(15));
    } else {
      fleet_.Work();
    }
    fleet_.ExpireLeases(NowUs());
    service_->Tick();
    fleet_.RunLater();
  }

  // No more accidents: every job ends and nothing stays occupied.
  void Settle() {
    fleet_.calm = true;
    for (int i = 0; i < 1500 && !::testing::Test::HasFailure() && !AllSettled(); ++i) {
      clock_.Advance(absl::Seconds(1));
      for (auto& [id, worker] : fleet_.workers()) {
        if (i % 40 == 39) fleet_.Disconnect(&worker, NowUs());  // for acks that were lost
        fleet_.Connect(&worker, NowUs());
      }
      fleet_.Work();
      service_->Tick();
      for (const std::string& uid : acknowledged_) {
        service_->Resume("default", "user", uid, [](const absl::StatusOr<liger::v1::Job>&) {});
      }
      fleet_.RunLater();
      CheckInvariants();
    }
    EXPECT_TRUE(AllSettled()) << "jobs or devices are stuck";
    EXPECT_FALSE(gangs_.empty()) << "no gang was tried";
  }

  template <typename F>
  void Look(F look) {
    const auto looked = store_->ReadAndWait<int>([&](const ReadView& view) -> absl::StatusOr<int> {
      look(view);
      return 0;
    });
    EXPECT_TRUE(looked.ok());
  }

  bool AllSettled() {
    bool settled = false;
    Look([&](const ReadView& view) {
      settled = view.ActiveJobs().empty() && view.UnreleasedMembers("").empty();
    });
    return settled;
  }

  void CheckInvariants() {
    Look([&](const ReadView& view) {
      for (const std::string& uid : acknowledged_) {
        const std::optional<JobRow> job = view.Job(uid);
        ASSERT_TRUE(job.has_value()) << "I1: " << uid << " is lost";
        CheckHistory(view, *job);
        CheckAttempts(view, *job);
      }
      std::set<std::pair<std::string, std::string>> devices;
      for (const MemberRow& member : view.UnreleasedMembers("")) {
        for (const std::string& uuid : member.device_uuids) {
          EXPECT_TRUE(devices.insert({member.worker_id, uuid}).second)
              << "I6: " << member.worker_id << "/" << uuid << " is booked twice";
        }
      }
    });
  }

  void CheckHistory(const ReadView& view, const JobRow& job) {
    int64_t seq = 0;
    int64_t revision = 0;
    JobState state = JobStatus::VALIDATING;
    for (const liger::v1::JobEvent& event : view.Events(job.uid, 0, 0)) {
      EXPECT_EQ(event.seq(), ++seq) << "I5: a gap in " << job.uid;
      EXPECT_GT(event.revision(), revision) << "I5";
      revision = event.revision();
      if (event.type() != "StateChanged") continue;
      EXPECT_EQ(event.from_state(), state) << "I5: the story of " << job.uid << " breaks";
      EXPECT_FALSE(IsTerminal(event.from_state())) << "I4";
      EXPECT_TRUE(IsLegalTransition(event.from_state(), event.to_state()));
      state = event.to_state();
    }
    EXPECT_EQ(state, job.state);
    EXPECT_EQ(seq, job.last_event_seq);
  }

  void CheckAttempts(const ReadView& view, const JobRow& job) {
    int live = 0;
    for (const AttemptRow& attempt : view.Attempts(job.uid)) {
      if (!IsOver(attempt.state)) {
        ++live;
        EXPECT_EQ(attempt.epoch, job.epoch) << "I3: an old epoch is not fenced";
      }
      size_t ranks = 0;
      for (const MemberRow& member : view.Members(job.uid, attempt.epoch)) {
        ranks += member.ranks.size();
        EXPECT_EQ(member.ranks.size(), member.device_uuids.size()) << "I7";
      }
      EXPECT_EQ(static_cast<int>(ranks), job.resolved_spec.resources().count()) << "I7";
    }
    EXPECT_EQ(live, HasLiveAttempt(job.state) ? 1 : 0) << "I3";
    std::vector<ArtifactRow> results = view.Artifacts("default", job.uid);
    std::erase_if(results, [](const ArtifactRow& artifact) { return !artifact.visible; });
    EXPECT_LE(results.size(), 1u) << "two results";
    EXPECT_EQ(job.state == JobStatus::SUCCEEDED, !results.empty() && IsTerminal(job.state));
  }

  FakeClock clock_;
  SimFleet fleet_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<JobService> service_;
  std::vector<std::string> acknowledged_;  // uid by request number
  std::set<int> gangs_;                    // those not made by a request
  int ids_ = 0;
};

class SimulationTest : public ::testing::TestWithParam<int> {};
TEST_P(SimulationTest, InvariantsHold) { Simulation(GetParam()).Run(250); }
INSTANTIATE_TEST_SUITE_P(Seeds, SimulationTest, ::testing::Range(1, 25));

}  // namespace
}  // namespace liger::server::testing
