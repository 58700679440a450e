// Which rows are read where not all are.
#include <algorithm>
#include <set>

#include "tests/unit/data/dataset_fixture.h"
#include "worker/trainer/data/dataset.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetSpec;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST_F(DatasetTest, EvalFractionIsDrawnBySeedAndDisjoint) {
  DatasetSpec spec;
  spec.set_eval_fraction(0.1);
  LoadOptions options;
  const Dataset a = Load(Tokenised(95), spec, options);
  EXPECT_EQ(a.eval.num_rows(), 10);
  EXPECT_EQ(a.train.num_rows(), 85);
  auto train = SecondIds(a.train);
  auto eval = SecondIds(a.eval);
  EXPECT_TRUE(std::is_sorted(train.begin(), train.end()));
  EXPECT_TRUE(std::is_sorted(eval.begin(), eval.end()));
  EXPECT_NE(eval.back(), 10);  // not simply the first rows
  std::set<int32_t> all(train.begin(), train.end());
  all.insert(eval.begin(), eval.end());
  EXPECT_EQ(all.size(), 95u);

  EXPECT_EQ(SecondIds(Load(Tokenised(95), spec, options).eval), eval);
  options.data_seed = 43;
  EXPECT_NE(SecondIds(Load(Tokenised(95), spec, options).eval), eval);
}

TEST_F(DatasetTest, LimitsHold) {
  DatasetSpec spec;
  spec.set_max_samples(20);
  spec.set_eval_fraction(0.5);
  spec.set_max_eval_samples(3);
  const Dataset dataset = Load(Tokenised(95), spec, {});
  EXPECT_EQ(dataset.eval.num_rows(), 3);
  EXPECT_EQ(dataset.train.num_rows(), 17);
  LoadOptions options;
  options.max_rows = 7;
  EXPECT_EQ(Load(Tokenised(95), {}, options).train.num_rows(), 7);
  spec.set_max_samples(1);
  EXPECT_EQ(FailureOf([&] { Load(Tokenised(95), spec, {}); }).field(), "dataset.eval_fraction");
}

// A CHECK reads on while there is time, so that what a whole file shows is found there already.
TEST_F(DatasetTest, ReadsOnUntilTheTimeIsOver) {
  std::string wanted, rows;
  for (int i = 0; i < 1200; ++i) {
    wanted += "{\"input_ids\": [1, 2], \"labels\": [-100, 2], \"label\": true}\n";
  }
  rows = wanted + "{\"input_ids\": [1, 2], \"labels\": [-100, 2], \"label\": false}\n";
  LoadOptions options = KtoOptions();
  options.max_rows = 2;
  const auto now = std::chrono::steady_clock::now();
  options.read_until = now + std::chrono::minutes(10);
  const Dataset whole = Load(rows, {}, options);
  EXPECT_EQ(whole.train_stats.rows, 1201);
  EXPECT_EQ(whole.unread_rows, 0);
  EXPECT_THAT(whole.warnings, IsEmpty());
  EXPECT_THAT(FailureOf([&] { Load(wanted, {}, options); }).message(),
              HasSubstr("all 1200 rows left to train on have label: true"));
  EXPECT_EQ(FailureOf([&] { Load(rows + "{\n", {}, options); }).row(), 1202);

  options.read_until = now;
  const Dataset first = Load(rows + "{\n", {}, options);
  EXPECT_EQ(first.train_stats.rows, 2);
  EXPECT_EQ(first.unread_rows, 1200);
  EXPECT_THAT(first.warnings, ElementsAre(HasSubstr("all of the first 2 rows have label: true")));
}

// The first rows of every file are read in any case; with an evaluation share and max_samples.
TEST_F(DatasetTest, TheTimeIsOfAllFilesAndTheFirstRowsOfEach) {
  const TempFile a(Tokenised(600)), b(Tokenised(700));
  LoadOptions options;
  options.max_rows = 3;
  options.read_until = std::chrono::steady_clock::now();
  options.train_files = {{a.path(), b.path()}};
  DatasetSpec spec;
  const Dataset first = LoadDataset(spec, options, *tokenizer_, &*chat_template_);
  EXPECT_THAT(SecondIds(first.train), ElementsAre(1, 2, 3, 1, 2, 3));
  EXPECT_EQ(first.unread_rows, 1294);
  spec.set_max_samples(605);
  EXPECT_EQ(LoadDataset(spec, options, *tokenizer_, &*chat_template_).unread_rows, 605 - 6);
  spec.set_eval_fraction(0.1);
  options.read_until = *options.read_until + std::chrono::minutes(10);
  const Dataset whole = LoadDataset(spec, options, *tokenizer_, &*chat_template_);
  EXPECT_EQ(whole.train_stats.rows, 544);
  EXPECT_EQ(whole.eval_stats.rows, 61);
  EXPECT_EQ(whole.unread_rows, 0);
}

}  // namespace
}  // namespace liger::trainer
