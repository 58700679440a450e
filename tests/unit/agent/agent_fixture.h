#ifndef LIGER_TESTS_UNIT_AGENT_AGENT_FIXTURE_H_
#define LIGER_TESTS_UNIT_AGENT_AGENT_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/agent/agent_process.h"
#include "tests/unit/agent/fake_coordinator.h"

namespace liger::agent {

inline trainer::v1::Ref MakeRef(const std::string& job, int64_t epoch = 1) {
  trainer::v1::Ref ref;
  ref.set_job_uid(job);
  ref.set_epoch(epoch);
  ref.set_task_id(absl::StrCat(job, "-train-", epoch));
  return ref;
}

using Labels = std::vector<std::pair<std::string, std::string>>;

inline v1::JobSpec MakeSpec(const std::string& name, const Labels& labels) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_sft();
  for (const auto& [key, value] : labels) (*spec.mutable_labels())[key] = value;
  return spec;
}

class AgentTest : public testing::Test {
 protected:
  void StartAgent(const std::vector<std::string>& flags = {}) {
    agent_.Start(flags);
    coordinator_->WaitForHello();
    coordinator_->WaitForHeartbeats(1);
  }
  void Run(const trainer::v1::Ref& ref, const Labels& labels, int ranks = 1) {
    coordinator_->Run(ref, MakeSpec(ref.job_uid(), labels), trainer::v1::TASK_KIND_TRAIN, ranks);
  }
  // Until the trainer has sent its first step.
  void WaitForProgress(const trainer::v1::Ref& ref) {
    ASSERT_TRUE(coordinator_->WaitUntil([&] {
      for (const worker::v1::TaskEvent& event : coordinator_->Received(ref)) {
        if (event.has_progress()) return true;
      }
      return false;
    }));
  }
  int CountPublishRequests() {
    int count = 0;
    for (const worker::v1::TaskEvent& event : coordinator_->Received(ref_)) {
      count += event.has_publish_request();
    }
    return count;
  }
  bool WaitForNoTrainers(absl::Duration timeout) {
    return coordinator_->WaitUntil([&] { return agent_.Trainers().empty(); }, timeout);
  }
  void ExpectGapless(const trainer::v1::Ref& ref) {
    int64_t expected = 1;
    for (const worker::v1::TaskEvent& event : coordinator_->Events(ref)) {
      EXPECT_EQ(event.seq(), expected++);
    }
  }
  // The next coordinator has the same port and knows what this one knew.
  void RestartCoordinator() {
    const int port = coordinator_->port();
    const FakeCoordinator::Memory memory = coordinator_->memory();
    coordinator_.reset();
    coordinator_ = std::make_unique<FakeCoordinator>(port, memory);
  }

  std::unique_ptr<FakeCoordinator> coordinator_ = std::make_unique<FakeCoordinator>();
  AgentProcess agent_{coordinator_->address()};
  const trainer::v1::Ref ref_ = MakeRef("job-a");
};

}  // namespace liger::agent

#endif  // LIGER_TESTS_UNIT_AGENT_AGENT_FIXTURE_H_
