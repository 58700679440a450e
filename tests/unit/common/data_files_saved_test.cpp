#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "common/data_files.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

// What datasets' save_to_disk writes in one shard over what it wrote there in two.
class SavedSetTest : public testing::Test {
 protected:
  SavedSetTest() {
    std::string pattern = (fs::temp_directory_path() / "liger-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    for (const std::string& name : {kOld[0], kOld[1], kNew}) std::ofstream(dir_ / name) << "x";
    WriteState(Listing({kNew}));
  }
  ~SavedSetTest() override { fs::remove_all(dir_); }

  void WriteState(const std::string& content) const {
    std::ofstream(dir_ / "state.json") << content;
  }
  static std::string Listing(const std::vector<std::string>& files) {
    std::string list;
    for (const std::string& file : files) {
      list += (list.empty() ? "" : ", ") + std::string("{\"filename\": \"") + file + "\"}";
    }
    return "{\"_data_files\": [" + list + "], \"_fingerprint\": \"1f3a\", \"_split\": null}";
  }

  absl::StatusOr<SplitFiles> Training() const {
    return MatchSplitFiles(dir_.string(), SplitUse::kTraining);
  }
  // Names in the folder.
  std::vector<std::string> Match(const std::string& pattern) const {
    auto files = MatchDataFiles((dir_ / pattern).string()).value_or(std::vector<std::string>());
    for (std::string& file : files) file = fs::path(file).filename().string();
    return files;
  }

  const std::string kNew = "data-00000-of-00001.arrow";
  const std::string kOld[2] = {"data-00000-of-00002.arrow", "data-00001-of-00002.arrow"};
  fs::path dir_;
};

TEST_F(SavedSetTest, IsTheShardsThatItsStateLists) {
  EXPECT_THAT(Match(""), ElementsAre(kNew));
  EXPECT_THAT(Training()->files, ElementsAre((dir_ / kNew).string()));
  EXPECT_THAT(Training()->left_out, ElementsAre());
  EXPECT_THAT(Match("*.arrow"), ElementsAre(kNew));
  EXPECT_THAT(Match("*"), ElementsAre(kNew));
  EXPECT_THAT(Match(kOld[1]), ElementsAre(kOld[1]));  // named
  WriteState(Listing({kOld[0], kOld[1]}));
  EXPECT_THAT(Match(""), ElementsAre(kOld[0], kOld[1]));
  // Older versions of datasets list what map wrote.
  std::ofstream(dir_ / "cache-1f3a.arrow") << "x";
  WriteState(Listing({"cache-1f3a.arrow"}));
  EXPECT_THAT(Match(""), ElementsAre("cache-1f3a.arrow"));
}

TEST_F(SavedSetTest, ALackingShardIsNamed) {
  for (const std::string& left : {kOld[1], std::string()}) {
    WriteState(Listing({kOld[0], kOld[1]}));
    fs::remove(dir_ / kOld[0]);
    fs::remove(dir_ / kNew);
    if (left.empty()) fs::remove(dir_ / kOld[1]);
    const std::string lacking = (dir_ / kOld[0]).string() +
                                (left.empty() ? ", " + (dir_ / kOld[1]).string() : std::string());
    for (const auto& status : {Training().status(), MatchDataFiles(dir_.string()).status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_EQ(status.message(), "the folder '" + dir_.string() + "' lacks " + lacking +
                                      ", which its state.json lists");
    }
  }
}

TEST_F(SavedSetTest, WithoutAListShardsOfTwoTotalsAreRefused) {
  for (const char* state : {"{\"_data_files\": []}", "{\"_data_files\": 3}", "{}", "[]", "x", ""}) {
    WriteState(state);
    EXPECT_THAT(Match(""), ElementsAre(kNew, kOld[0], kOld[1])) << state;
    EXPECT_THAT(Training().status().message(),
                testing::HasSubstr("twice: " + dir_.string() + "/data-[0-9]*-of-00001*.arrow, "))
        << state;
  }
}

}  // namespace
}  // namespace liger
