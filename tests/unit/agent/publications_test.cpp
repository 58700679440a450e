#include "worker/agent/publications.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

// By their names checkpoint-12 comes before checkpoint-8, and the coordinator would take the latter
// for a repetition and not answer it.
TEST(PublicationsTest, AsksAgainInTheOrderInWhichItAsked) {
  std::string pattern = (fs::temp_directory_path() / "publications-XXXXXX").string();
  const std::string dir = mkdtemp(pattern.data());
  const auto spool = Spool::Open(dir + "/spool").value();
  for (const char* id :
       {"checkpoint-4", "checkpoint-8", "checkpoint-12", "checkpoint-100", "model"}) {
    worker::v1::TaskEvent request;
    request.mutable_publish_request()->mutable_saved()->set_publication_id(id);
    ASSERT_TRUE(spool->Append(request, {}).ok());
  }
  worker::v1::PublicationOutcome outcome;
  outcome.set_publication_id("checkpoint-4");
  ASSERT_TRUE(spool->RecordPublication(outcome, {}).ok());
  const Services services;
  Publications publications(services, *spool, {}, dir, {});
  std::vector<std::string> ids;
  for (const worker::v1::TaskEvent& event : publications.AskAgain()) {
    ids.push_back(event.publish_request().saved().publication_id());
  }
  EXPECT_THAT(ids,
              testing::ElementsAre("checkpoint-8", "checkpoint-12", "checkpoint-100", "model"));
  fs::remove_all(dir);
}

// At once, and again by the next agent; a job goes on without a checkpoint, not without its model.
TEST(PublicationsTest, TellsWhatBecameOfThem) {
  std::string pattern = (fs::temp_directory_path() / "publications-XXXXXX").string();
  const std::string dir = mkdtemp(pattern.data());
  const auto spool = Spool::Open(dir + "/spool").value();
  const Services services;
  Publications publications(services, *spool, {}, dir, {});
  const auto end = [&](const std::string& id, const absl::StatusOr<PublishResult>& result) {
    worker::v1::TaskEvent request;
    request.mutable_publish_request()->mutable_saved()->set_publication_id(id);
    ASSERT_TRUE(spool->Append(request, {}).ok());
    worker::v1::PublishGranted granted;
    granted.set_publication_id(id);
    granted.set_output_uri("file:///out/" + id);
    publications.OnPublished(granted, result);
  };
  end("checkpoint-8", PublishResult::kVisible);
  end("checkpoint-12", absl::ResourceExhaustedError("No space left on device"));
  EXPECT_EQ(publications.storage_error(), "");
  end("model", absl::ResourceExhaustedError("Disk quota exceeded"));
  EXPECT_EQ(publications.storage_error(), "Disk quota exceeded");
  EXPECT_TRUE(publications.AllSettled());
  std::vector<std::string> told;
  const auto restarted = Spool::Open(dir + "/spool").value();
  for (int64_t seq = 1; seq <= restarted->last_seq(); ++seq) {
    const worker::v1::TaskEvent& event = *restarted->After(seq - 1);
    if (!event.has_publication()) continue;
    EXPECT_EQ(event.publication().storage(), !event.publication().error().empty());
    told.push_back(event.publication().publication_id() + ": " + event.publication().error());
  }
  EXPECT_THAT(told, testing::ElementsAre("checkpoint-8: ", "checkpoint-12: No space left on device",
                                         "model: Disk quota exceeded"));
  fs::remove_all(dir);
}

}  // namespace
}  // namespace liger::agent
