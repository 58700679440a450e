#include "worker/trainer/checkpoint/saved_tensors.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/unit/checkpoint/test_util.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class SavedTensorsTest : public testing::Test {
 protected:
  // A matrix of twelve elements of which three ranks have 5, 0 and 7, and a number of the first's,
  // as the other ranks write them beside it.
  std::string WriteShards(int64_t wrong = 0) {
    OutputFolder folder(dir_ / "checkpoint", /*overwrite=*/true, 0);
    const at::Tensor flat = matrix_.view(-1);
    WriteSafetensors(folder, ShardFile(0, 3), {{"m", flat.narrow(0, 0, 5)},
                                               {"step", at::full({1}, int64_t{7}, at::kLong)}});
    std::vector<std::thread> others;
    others.emplace_back([&] {
      WriteForOther(folder.staging(), ShardFile(1, 3), [](FileWriter& file) {
        WriteSafetensors(file, {});
      });
    });
    others.emplace_back([&] {
      WriteForOther(folder.staging(), ShardFile(2, 3), [&](FileWriter& file) {
        WriteSafetensors(file, {{"m", flat.narrow(0, 5, 7 - wrong)}});
      });
    });
    folder.Write(kShardsFile, ShardsJson(3, {{"m", {{3, 4}, {5, 0, 7}}}},
                                         {{"step", {{}, {1, 0, 0}}}}, /*reference=*/{}));
    const std::atomic<bool> given_up{false};
    folder.Await(ShardFile(1, 3), given_up);
    folder.Await(ShardFile(2, 3), given_up);
    for (std::thread& other : others) other.join();
    return folder.Commit().dir;
  }

  const TempDir dir_;
  const at::Tensor matrix_ = at::arange(12, at::kFloat).view({3, 4});
};

TEST_F(SavedTensorsTest, ShardsAreReadByAnyRange) {
  const std::string dir = WriteShards();
  VerifyManifest(dir);
  const SavedShards saved = OpenShards(dir);
  EXPECT_TRUE(at::equal(saved.parameters->Whole("m"), matrix_));
  EXPECT_EQ(saved.states->Whole("step").item<int64_t>(), 7);
  for (int64_t begin = 0; begin < 12; ++begin) {
    for (int64_t count = 0; begin + count <= 12; ++count) {
      EXPECT_TRUE(at::equal(saved.parameters->Range("m", begin, count),
                            matrix_.view(-1).narrow(0, begin, count)))
          << begin << " " << count;
    }
  }
}

TEST_F(SavedTensorsTest, AFileThatIsNotAsTheListSaysIsNamed) {
  const std::string dir = WriteShards(/*wrong=*/1);
  try {
    OpenShards(dir);
    FAIL();
  } catch (const TrainerError& error) {
    EXPECT_THAT(error.what(), HasSubstr("shard-00003-of-00003.safetensors has not what"));
    EXPECT_THAT(error.what(), HasSubstr("tensor 'm'"));
  }
}

TEST_F(SavedTensorsTest, WhatAnotherProcessFailsOfIsSaid) {
  OutputFolder folder(dir_ / "checkpoint", /*overwrite=*/true, 0);
  const auto fails = [](FileWriter&) {
    throw TrainerError(liger::v1::FAILURE_CLASS_STORAGE, "its disk is full", "free space");
  };
  EXPECT_THROW(WriteForOther(folder.staging(), "b", fails), TrainerError);
  try {
    folder.Await("b", /*given_up=*/std::atomic<bool>(false));
    FAIL();
  } catch (const TrainerError& error) {
    EXPECT_EQ(std::string(error.what()), "its disk is full");
    EXPECT_EQ(error.failure().class_(), liger::v1::FAILURE_CLASS_STORAGE);
    EXPECT_EQ(error.failure().action(), "free space");
  }
}

// A rank that was to write it is gone.
TEST_F(SavedTensorsTest, TheWaitForAnotherProcessIsGivenUp) {
  OutputFolder folder(dir_ / "checkpoint", /*overwrite=*/true, 0);
  std::atomic<bool> given_up{false};
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    given_up = true;
  });
  EXPECT_THROW(folder.Await("b", given_up), TrainerError);
  other.join();
}

}  // namespace
}  // namespace liger::trainer
