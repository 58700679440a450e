#include "worker/trainer/data/row_warnings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_replace.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

// The warning about a folder of these files when it is trained on, with "F" for its path.
std::string SplitWarning(const std::vector<std::string>& names,
                         SplitUse use = SplitUse::kTraining) {
  std::string folder = (fs::temp_directory_path() / "liger-test-XXXXXX").string();
  mkdtemp(folder.data());
  for (const std::string& name : names) std::ofstream(fs::path(folder) / name) << "{}";
  std::vector<std::string> warnings;
  AddSplitWarning(MatchSplitFiles(folder, use)->left_out, use, &warnings);
  fs::remove_all(folder);
  return warnings.empty() ? "" : absl::StrReplaceAll(warnings[0], {{folder, "F"}});
}

TEST(SplitWarningTest, ProposesAFileOfAHeldOutSplit) {
  EXPECT_EQ(SplitWarning({"extra.jsonl", "test.jsonl", "train.jsonl", "val.jsonl"}),
            "F: its files are by their names not all of the training split, which alone is "
            "trained on; left out: extra.jsonl, test.jsonl, val.jsonl; to evaluate on such a file, "
            "name it in dataset.eval_uri (F/test.jsonl); to train on all, name a pattern instead "
            "of the folder (F/*.jsonl)");
  const std::string none = SplitWarning({"train.jsonl", "other-00000-of-00001.jsonl"});
  EXPECT_THAT(none, HasSubstr("left out: other-00000-of-00001.jsonl; to train on all"));
  EXPECT_THAT(none, Not(HasSubstr("eval_uri")));
  EXPECT_THAT(SplitWarning({"dataset_infos.json", "test.jsonl", "train.jsonl"}),
              HasSubstr("left out: test.jsonl;"));
}

TEST(SplitWarningTest, TellsWhatIsNotEvaluatedOn) {
  EXPECT_EQ(SplitWarning({"test.jsonl", "train.jsonl", "val.jsonl"}, SplitUse::kEvaluation),
            "F: its files are by their names not all of the split validation, which alone is "
            "evaluated on; left out: test.jsonl, train.jsonl; to evaluate on such a file, name it "
            "in dataset.eval_uri (F/test.jsonl)");
  EXPECT_EQ(SplitWarning({"holdout.jsonl", "train.jsonl"}, SplitUse::kEvaluation),
            "F: its files are by their names not all of the split that is evaluated on; left out: "
            "holdout.jsonl; to evaluate on all, name a pattern instead of the folder (F/*.jsonl)");
}

TEST(SplitWarningTest, ThePatternTakesAllAndNothingElse) {
  EXPECT_THAT(SplitWarning({"train.jsonl.gz", "test.jsonl.gz", "more.gz"}),
              EndsWith("(F/*.jsonl.gz)"));
  EXPECT_THAT(SplitWarning({"train.json", "test.jsonl", "README.md"}), EndsWith("(F/*.json*)"));
  EXPECT_THAT(SplitWarning({"train.parquet", "test.jsonl"}), EndsWith("(F/*)"));
  EXPECT_THAT(SplitWarning({"train.parquet", "test.jsonl", "README.md"}),
              EndsWith("; to train on all, name each file in dataset.sources"));
  EXPECT_THAT(SplitWarning({"train.parquet", "test.jsonl", "README.md"}, SplitUse::kEvaluation),
              EndsWith("left out: train.parquet"));
}

}  // namespace
}  // namespace liger::trainer
