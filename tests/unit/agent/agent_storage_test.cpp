// liger-worker when results or its own notes cannot be written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "common/file.h"
#include "tests/unit/agent/agent_fixture.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using worker::v1::Exited;

class AgentStorageTest : public AgentTest {
 protected:
  // Up to the moment in which the coordinator has to answer.
  void RunToThePublication(const Labels& labels) {
    coordinator_->SetPublicationAnswer(FakeCoordinator::PublicationAnswer::kNone);
    StartAgent();
    Run(ref_, labels);
    ASSERT_TRUE(coordinator_->WaitUntil([&] { return CountPublishRequests() == 1; }));
  }
  std::vector<std::string> Outputs() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(agent_.dir() + "/outputs")) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }
};

TEST_F(AgentStorageTest, AGrantThatCannotBeUsedIsReported) {
  RunToThePublication({});
  ASSERT_TRUE(MakeFolders(agent_.output("job-a") + "/mine").ok());
  coordinator_->Grant(ref_);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(exited.failure().message(), HasSubstr("exists already"));
  EXPECT_THAT(exited.unpublished(), ElementsAre("model"));
  EXPECT_THAT(Outputs(), ElementsAre("job-a"));
  // The result is kept for whoever looks into it.
  ASSERT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("failed").size() == 1; }));
  EXPECT_TRUE(fs::exists(fs::path(agent_.dir()) / "data" / "failed" / agent_.Folders("failed")[0] /
                         "work" / "model" / "model.safetensors"));
}

TEST_F(AgentStorageTest, AFileInTheWayOfTheOutputEndsTheTask) {
  RunToThePublication({});
  ASSERT_TRUE(WriteFileAtomically(agent_.output("taken"), "a file").ok());
  coordinator_->Grant(ref_, "taken/model");
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(exited.failure().message(), HasSubstr("Not a directory"));
}

TEST_F(AgentStorageTest, RefusesAnOutputBelowAFileBeforeTraining) {
  StartAgent();
  ASSERT_TRUE(WriteFileAtomically(agent_.output("taken"), "a file").ok());
  v1::JobSpec spec = MakeSpec("job-a", {});
  spec.mutable_output()->set_uri("taken/model");
  coordinator_->Run(ref_, spec);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_CONFIG);
  EXPECT_EQ(exited.failure().field(), "output.uri");
}

TEST_F(AgentStorageTest, ARestartedAgentRemembersThatAGrantCouldNotBeUsed) {
  RunToThePublication({{"end", "saved"}});
  ASSERT_TRUE(MakeFolders(agent_.output("job-a") + "/mine").ok());
  coordinator_->Grant(ref_);
  ASSERT_TRUE(coordinator_->WaitUntil(
      [&] { return agent_.Log().find("publication model: ") != std::string::npos; }));
  agent_.Kill();
  agent_.Start();
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(exited.unpublished(), ElementsAre("model"));
}

TEST_F(AgentStorageTest, AGrantThatIsNotUsedIsReportedWhenTheWorkerStops) {
  RunToThePublication({{"end", "saved"}});
  agent_.Signal(SIGTERM);
  agent_.Wait();
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_INFRA) << "to be run elsewhere";
  EXPECT_THAT(exited.unpublished(), ElementsAre("model"));
  EXPECT_THAT(Outputs(), IsEmpty());
}

// Another worker may run the job by now.
TEST_F(AgentStorageTest, NothingAppearsOfAnAttemptThatIsOver) {
  RunToThePublication({{"end", "saved"}});
  coordinator_->SetVerdict("job-a", worker::v1::Verdict::STOP);
  coordinator_->CloseSessions();
  coordinator_->WaitForHello(2);
  coordinator_->Grant(ref_);
  EXPECT_THAT(coordinator_->WaitForExited(ref_).unpublished(), ElementsAre("model"));
  EXPECT_THAT(Outputs(), IsEmpty());
  const auto events = coordinator_->Events(ref_);
  const auto told = std::find_if(events.begin(), events.end(),
                                 [](const auto& event) { return event.has_publication(); });
  ASSERT_NE(told, events.end());
  EXPECT_THAT(told->publication().error(), HasSubstr("no longer runs this attempt"));
  EXPECT_FALSE(told->publication().storage());
}

TEST_F(AgentStorageTest, TellsTheEndOfATaskAlsoWithAFullDisk) {
  StartAgent();
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  agent_.FillDisk();
  coordinator_->Stop(ref_, 30);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_TRUE(exited.cancelled());
  ExpectGapless(ref_);
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("attempts").empty(); }));
}

TEST_F(AgentStorageTest, SaysThatNoTaskCanRunWhileItsDiskIsFull) {
  StartAgent();
  EXPECT_EQ(coordinator_->last_heartbeat().unfit(), "");
  agent_.FillDisk();
  EXPECT_TRUE(coordinator_->WaitUntil([&] {
    return coordinator_->last_heartbeat().unfit().find("takes no file") != std::string::npos;
  })) << coordinator_->last_heartbeat().unfit();
  coordinator_->Prepare(ref_, trainer::v1::TASK_KIND_CHECK, {});
  EXPECT_TRUE(coordinator_->WaitForRefused(ref_).unfit());
}

TEST_F(AgentStorageTest, AResultThatCannotBeNotedFailsTheTask) {
  StartAgent();
  Run(ref_, {{"steps", "50"}});
  WaitForProgress(ref_);
  agent_.FillDisk();
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_INFRA) << "to be run elsewhere";
  EXPECT_THAT(exited.failure().message(), HasSubstr("spool"));
  ExpectGapless(ref_);
  EXPECT_THAT(Outputs(), IsEmpty());
}

}  // namespace
}  // namespace liger::agent
