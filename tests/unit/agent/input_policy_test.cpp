#include "worker/agent/input_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <optional>

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class InputPolicyTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "policy-XXXXXX").string();
    dir_ = fs::canonical(mkdtemp(pattern.data()));
    fs::create_directories(dir_ / "models");
    fs::create_directories(dir_ / "data");
    fs::create_directories(dir_ / "out/done.checkpoints/checkpoint-10");
    fs::create_directories(dir_ / "out/done");
    fs::create_directories(dir_ / "out/failed.checkpoints/checkpoint-5");
    fs::create_directories(dir_ / "outside.checkpoints");
    fs::create_directory_symlink(dir_ / "outside.checkpoints", dir_ / "out/link.checkpoints");
    models_.emplace(Root::Open((dir_ / "models").string()).value());
    data_.emplace(Root::Open((dir_ / "data").string()).value());
    out_.emplace(Root::Open((dir_ / "out").string()).value());
    services_.model_root = &*models_;
    services_.dataset_root = &*data_;
    services_.output_root = &*out_;
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::string Path(const std::string& uri) {
    const auto path = CheckpointPath(uri, services_);
    return path.ok() ? *path : std::string(path.status().message());
  }

  fs::path dir_;
  std::optional<Root> models_, data_, out_;
  Services services_;
};

TEST_F(InputPolicyTest, AnInputElsewhereIsRefusedByTheFieldThatNamedIt) {
  v1::JobSpec by_name, by_uri;
  by_name.mutable_model()->set_name("/etc/models/x");
  by_uri.mutable_model()->set_uri("file:///etc/models/x");
  for (const auto& [spec, field] : {std::pair(by_name, "model.name"), {by_uri, "model.uri"}}) {
    const auto refused = CheckSpecPaths(spec, services_, /*check=*/true);
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->field(), field);
    EXPECT_THAT(refused->message(), HasSubstr("/etc/models/x' is not below " + models_->path() +
                                              ", " + data_->path()));
  }
}

// What an earlier job made is the next one's model or adapter.
TEST_F(InputPolicyTest, InputsMayLieBelowTheOutputRoot) {
  fs::create_directories(dir_ / "elsewhere/model");
  fs::create_directories(dir_ / "models/both");
  fs::create_directory_symlink(dir_ / "elsewhere", dir_ / "out/both");
  fs::create_directory_symlink(dir_ / "elsewhere", dir_ / "out/away");
  const auto refused = [this](const std::string& uri) {
    v1::JobSpec model, adapter, rows;
    model.mutable_model()->set_uri(uri);
    adapter.mutable_lora()->set_adapter_uri(uri);
    rows.mutable_dataset()->set_uri(uri);
    std::string fields;
    for (const v1::JobSpec& spec : {model, adapter, rows}) {
      if (auto failure = CheckSpecPaths(spec, services_, /*check=*/true)) {
        fields += failure->field() + " ";
        EXPECT_THAT(failure->action(), HasSubstr("output root (" + out_->path() + ")"));
      }
    }
    return fields;
  };
  constexpr char kAll[] = "model.uri lora.adapter_uri dataset.uri ";
  EXPECT_EQ(refused("done"), "");
  EXPECT_EQ(refused("done.checkpoints/checkpoint-10"), "");
  EXPECT_EQ(refused((dir_ / "out/done").string()), "");
  EXPECT_EQ(refused("file://" + (dir_ / "out/done").string()), "");
  EXPECT_EQ(refused("both"), "") << "the model root comes first and has it";
  // Links and dots lead out of it no more than out of the others.
  EXPECT_EQ(refused("away/model"), kAll);
  EXPECT_EQ(refused((dir_ / "out/away/model").string()), kAll);
  EXPECT_EQ(refused("../elsewhere/model"), kAll);
  EXPECT_EQ(refused((dir_ / "out/../elsewhere/model").string()), kAll);
  EXPECT_EQ(refused((dir_ / "elsewhere/model").string()), kAll);
}

// Below the output root, where jobs put them.
TEST_F(InputPolicyTest, CheckpointsLieBelowTheOutputRoot) {
  EXPECT_EQ(Path("done"), dir_ / "out/done");
  EXPECT_EQ(Path("failed"), dir_ / "out/failed") << "its checkpoints are there";
  EXPECT_EQ(Path("done.checkpoints/checkpoint-10"), dir_ / "out/done.checkpoints/checkpoint-10");
  EXPECT_EQ(Path("file://" + (dir_ / "out/done").string()), dir_ / "out/done");
  EXPECT_EQ(Path("none"), dir_ / "out/none") << "the trainer says that it is not there";
}

TEST_F(InputPolicyTest, CheckpointsElsewhereAreRefusedByName) {
  EXPECT_THAT(Path("/etc"), HasSubstr("outside of the folders"));
  EXPECT_THAT(Path("../outside"), HasSubstr("outside of the folders"));
  v1::JobSpec spec;
  spec.mutable_training()->set_resume_from_checkpoint((dir_ / "outside").string());
  const auto refused = CheckSpecPaths(spec, services_, /*check=*/true);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->field(), "training.resume_from_checkpoint");
  EXPECT_THAT(refused->action(), HasSubstr((dir_ / "out").string()));
  // Links do not lead out, neither of a folder nor of its checkpoints.
  EXPECT_NE(Path("link"), dir_ / "out/link");
}

TEST_F(InputPolicyTest, AnEarlierAttemptsModelKeepsTheNextOneNotAway) {
  fs::create_directories(dir_ / "out/there");
  v1::JobSpec spec;
  spec.mutable_output()->set_uri("there");
  EXPECT_TRUE(CheckSpecPaths(spec, services_, /*check=*/false));
  EXPECT_FALSE(CheckSpecPaths(spec, services_, /*check=*/false, /*again=*/true));
}

TEST_F(InputPolicyTest, AnEarlierJobsCheckpointsKeepANewJobAway) {
  v1::JobSpec spec;
  spec.mutable_output()->set_uri("failed");
  EXPECT_FALSE(CheckSpecPaths(spec, services_, /*check=*/true)) << "it saves none";
  spec.mutable_training()->set_save_steps(5);
  const auto refused = CheckSpecPaths(spec, services_, /*check=*/true);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->field(), "output.uri");
  EXPECT_FALSE(CheckSpecPaths(spec, services_, /*check=*/false)) << "a second attempt has its own";
  spec.mutable_output()->set_overwrite(true);
  EXPECT_FALSE(CheckSpecPaths(spec, services_, /*check=*/true));
}

}  // namespace
}  // namespace liger::agent
