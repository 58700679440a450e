#include "client/starter_files.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "client/connection.h"

namespace liger::client {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class StarterFilesTest : public testing::Test {
 protected:
  StarterFilesTest() {
    char name[] = "/tmp/liger_starter.XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~StarterFilesTest() override { fs::remove_all(folder_); }

  void AddModel(const std::string& name) const {
    fs::create_directories(folder_ / name);
    std::ofstream(folder_ / name / "config.json") << "{}";
  }

  fs::path folder_;
};

// The test lies in tests/ beside bin/, so it sees the samples as liger-cli does.
TEST_F(StarterFilesTest, SamplesGoIntoAnEmptyFolderOnly) {
  CopySampleDatasets(folder_);
  EXPECT_TRUE(fs::is_regular_file(folder_ / "alpaca_en_demo.json"));
  EXPECT_TRUE(fs::is_regular_file(folder_ / "LICENSE"));
  fs::remove(folder_ / "alpaca_en_demo.json");
  CopySampleDatasets(folder_);
  EXPECT_FALSE(fs::exists(folder_ / "alpaca_en_demo.json"));
}

TEST_F(StarterFilesTest, TheFirstCommandWorksOrSaysWhatIsMissing) {
  fs::create_directories(folder_ / "no-model");
  EXPECT_THAT(FirstSteps(folder_, folder_, kDefaultAddress),
              HasSubstr("  hf download HuggingFaceTB/SmolLM2-135M-Instruct --local-dir " +
                        folder_.string() + "/smollm2-135m\n"));
  AddModel("mine");
  EXPECT_THAT(FirstSteps(folder_, folder_, "127.0.0.1:9"),
              HasSubstr("  liger-cli --address 127.0.0.1:9 submit --model " + folder_.string() +
                        "/mine --trainer sft\n"));
  AddModel("smollm2-135m");
  EXPECT_THAT(FirstSteps(folder_, folder_, kDefaultAddress),
              HasSubstr("  liger-cli submit --model smollm2-135m --trainer sft\n"));
  EXPECT_THAT(FirstSteps(folder_, folder_, kDefaultAddress), Not(HasSubstr("hf download")));
}

TEST_F(StarterFilesTest, SaysHowToGetTheSamples) {
  AddModel("smollm2-135m");
  const std::string datasets = folder_ / "datasets";
  fs::create_directory(datasets);
  const std::string without = FirstSteps(folder_, datasets, kDefaultAddress);
  EXPECT_THAT(without, HasSubstr("the sample datasets are not below datasets"));
  const size_t begin = without.find("  cp ") + 5;
  const std::string samples = without.substr(begin, without.find("/* ") - begin);
  EXPECT_TRUE(fs::is_regular_file(samples + "/alpaca_en_demo.json")) << samples;
  EXPECT_THAT(without, HasSubstr("/* " + datasets + "/\n"));
  CopySampleDatasets(datasets);
  EXPECT_THAT(FirstSteps(folder_, datasets, kDefaultAddress), Not(HasSubstr("sample datasets")));
}

}  // namespace
}  // namespace liger::client
