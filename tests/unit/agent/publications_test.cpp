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
  ASSERT_TRUE(spool->RecordPublication(outcome).ok());
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

}  // namespace
}  // namespace liger::agent
