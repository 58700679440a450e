#include "worker/agent/spool.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>

#include "common/framing.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using worker::v1::TaskEvent;

class SpoolTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "spool-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    ref_.set_job_uid("job");
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::unique_ptr<Spool> Open() { return Spool::Open(path()).value(); }
  std::string path() const { return dir_ + "/spool"; }
  static TaskEvent Step(int64_t step) {
    TaskEvent event;
    event.mutable_progress()->mutable_step()->set_step(step);
    return event;
  }

  std::string dir_;
  trainer::v1::Ref ref_;
};

TEST_F(SpoolTest, NumbersFromOneWithoutGaps) {
  auto spool = Open();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(spool->Append(Step(i), ref_).ok());
  EXPECT_EQ(spool->last_seq(), 3);
  EXPECT_EQ(spool->After(0)->seq(), 1);
  EXPECT_EQ(spool->After(2)->seq(), 3);
  EXPECT_EQ(spool->After(2)->ref().job_uid(), "job");
  EXPECT_EQ(spool->After(3), nullptr);
}

TEST_F(SpoolTest, ForgetsWhatIsAcknowledged) {
  auto spool = Open();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(spool->Append(Step(i), ref_).ok());
  spool->Acknowledge(2);
  EXPECT_EQ(spool->After(0)->seq(), 3);
  spool->Acknowledge(1);  // late
  EXPECT_EQ(spool->acknowledged(), 2);
  spool->Acknowledge(1000);  // of another life
  EXPECT_TRUE(spool->drained());
  EXPECT_EQ(spool->acknowledged(), 3);
  ASSERT_TRUE(spool->Append(Step(4), ref_).ok());
  EXPECT_EQ(spool->After(0)->seq(), 4);
}

TEST_F(SpoolTest, ARestartFindsTheSameEventsUnderTheSameNumbers) {
  std::string first;
  {
    auto spool = Open();
    ASSERT_TRUE(spool->Append(Step(7), ref_, 0, 12).ok());
    ASSERT_TRUE(spool->Append(Step(8), ref_, 1, 5).ok());
    ASSERT_TRUE(spool->RecordStop("cancelled").ok());
    first = spool->After(0)->SerializeAsString();
  }
  auto spool = Open();
  EXPECT_EQ(spool->After(0)->SerializeAsString(), first);
  EXPECT_EQ(spool->last_seq(), 2);
  EXPECT_EQ(spool->source_seq(0), 12);
  EXPECT_EQ(spool->source_seq(1), 5);
  EXPECT_EQ(spool->source_seq(2), 0);
  EXPECT_EQ(spool->stop_reason(), "cancelled");
  EXPECT_FALSE(spool->exited());
}

TEST_F(SpoolTest, DropsATornRecordAndGoesOnBehindIt) {
  {
    auto spool = Open();
    ASSERT_TRUE(spool->Append(Step(1), ref_).ok());
    ASSERT_TRUE(spool->Append(Step(2), ref_).ok());
  }
  fs::resize_file(path(), fs::file_size(path()) - 3);
  {
    auto spool = Open();
    EXPECT_EQ(spool->last_seq(), 1);
    ASSERT_TRUE(spool->Append(Step(20), ref_).ok());
  }
  auto spool = Open();
  EXPECT_EQ(spool->last_seq(), 2);
  EXPECT_EQ(spool->After(1)->progress().step().step(), 20);
}

// Until the end of the test no file grows: as on a full disk, but for everyone.
class FullDisk {
 public:
  FullDisk() {
    getrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, SIG_IGN);
    const rlimit full{0, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &full);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST_F(SpoolTest, TellsTheExitAlsoWhenTheDiskIsFull) {
  TaskEvent exited;
  exited.mutable_exited();
  {
    auto spool = Open();
    ASSERT_TRUE(spool->Append(Step(1), ref_).ok());
    FullDisk full;
    EXPECT_FALSE(spool->RecordStop("cancelled").ok());
    EXPECT_EQ(spool->stop_reason(), "cancelled") << "it holds all the same";
    worker::v1::PublicationOutcome outcome;
    outcome.set_publication_id("model");
    EXPECT_FALSE(spool->RecordPublication(outcome, ref_).ok());
    EXPECT_TRUE(spool->outcomes().contains("model"));
    EXPECT_FALSE(spool->Append(exited, ref_).ok());
    EXPECT_FALSE(spool->exited());
    spool->HoldExit(exited, ref_);
    EXPECT_TRUE(spool->exited());
    EXPECT_EQ(spool->After(1)->seq(), 2);
    EXPECT_EQ(spool->After(1)->ref().job_uid(), "job");
  }
  // The next agent makes it again, under the same number.
  auto spool = Open();
  EXPECT_FALSE(spool->exited());
  ASSERT_TRUE(spool->Append(exited, ref_).ok());
  EXPECT_EQ(spool->last_seq(), 2);
}

TEST_F(SpoolTest, StoresTextOfAnyEncoding) {
  TaskEvent exited;
  exited.mutable_exited()->mutable_failure()->set_message("cannot write /data/caf\xE9");
  ASSERT_TRUE(Open()->Append(exited, ref_).ok());
  auto spool = Open();
  EXPECT_EQ(spool->After(0)->exited().failure().message(), "cannot write /data/caf\xEF\xBF\xBD");
}

TEST_F(SpoolTest, RemembersPublicationsAndTheExit) {
  {
    auto spool = Open();
    TaskEvent request;
    request.mutable_publish_request()->mutable_saved()->set_publication_id("model");
    ASSERT_TRUE(spool->Append(request, ref_).ok());
    TaskEvent exited;
    exited.mutable_exited();
    ASSERT_TRUE(spool->Append(exited, ref_).ok());
    worker::v1::PublicationOutcome outcome;
    outcome.set_publication_id("model");
    outcome.set_output_uri("out");
    ASSERT_TRUE(spool->RecordPublication(outcome, ref_).ok());
  }
  auto spool = Open();
  EXPECT_TRUE(spool->exited());
  EXPECT_TRUE(spool->requested().contains("model"));
  EXPECT_EQ(spool->outcomes().at("model").output_uri(), "out");
}

TEST_F(SpoolTest, WhatBecameOfAPublicationIsTold) {
  worker::v1::PublicationOutcome outcome;
  outcome.set_publication_id("checkpoint-20");
  outcome.set_error("No space left on device");
  ASSERT_TRUE(Open()->RecordPublication(outcome, ref_).ok());
  // As an agent left it that did not tell.
  worker::v1::SpoolRecord old;
  old.mutable_publication()->set_publication_id("checkpoint-10");
  std::ofstream(path(), std::ios::app | std::ios::binary) << EncodeFrame(old.SerializeAsString());
  auto spool = Open();
  EXPECT_EQ(spool->last_seq(), 1);
  EXPECT_EQ(spool->After(0)->publication().error(), "No space left on device");
  EXPECT_EQ(spool->outcomes().at("checkpoint-20").error(), "No space left on device");
  EXPECT_TRUE(spool->outcomes().contains("checkpoint-10"));
}

}  // namespace
}  // namespace liger::agent
