// KTO's rows: answers with a label, and the mismatched answers of a batch.
#include <ATen/ATen.h>

#include "tests/unit/data/dataset_fixture.h"
#include "worker/trainer/data/batch.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class LabelledRowsTest : public DatasetTest {};

// As in columns of whole numbers and in CSV.
TEST_F(LabelledRowsTest, KtoTakesOneAndZeroForTrueAndFalse) {
  const std::string rows = R"({"input_ids": [1, 2], "labels": [-100, 2], "label": 0}
{"input_ids": [1, 2], "labels": [-100, 2], "label": 1})";
  EXPECT_THAT(Load(rows, {}, KtoOptions()).train.desirable, ElementsAre(0, 1));
}

TEST_F(LabelledRowsTest, KtoReadsAnswersWithALabel) {
  const std::string prompt = R"("prompt": "Hi", "completion": " a")";
  const std::string messages =
      R"("messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a"}])";
  const std::string sharegpt =
      R"("conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "a"}])";
  const std::string tokens = R"("input_ids": [1, 2, 3], "labels": [-100, 2, 3])";
  for (const std::string& content : {prompt, messages, sharegpt, tokens}) {
    for (const char* label : {"label", "kto_tag"}) {
      const std::string rows = "{" + content + ", \"" + label + "\": true}\n{" + content + ", \"" +
                               label + "\": false}\n";
      const ExampleSet set = Load(rows, {}, KtoOptions()).train;
      EXPECT_EQ(set.kind, RowKind::kLabelled);
      EXPECT_THAT(set.desirable, ElementsAre(1, 0)) << content;
      ASSERT_THAT(set.sequences, SizeIs(2)) << content;
      EXPECT_EQ(set.sequences[0].labels.front(), kIgnoredLabel) << content;
      EXPECT_NE(set.sequences[0].labels.back(), kIgnoredLabel) << content;
    }
  }
}

// Rows that are dropped take their labels with them.
TEST_F(LabelledRowsTest, KtoDropsALabelWithItsRow) {
  LoadOptions options = KtoOptions();
  options.max_length = 4;
  const ExampleSet set = Load(R"({"input_ids": [1, 2], "labels": [-100, 2], "label": true}
{"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, -100, -100, 5], "label": true}
{"input_ids": [1, 2], "labels": [-100, 2], "label": false})",
                              {}, options)
                             .train;
  EXPECT_THAT(set.desirable, ElementsAre(1, 0));
}

// A CHECK that reads the first rows alone cannot say that others are not otherwise.
TEST_F(LabelledRowsTest, KtoWarnsOfOneLabelInTheFirstRows) {
  LoadOptions options = KtoOptions();
  options.max_rows = 2;
  const std::string rows = R"({"input_ids": [1, 2], "labels": [-100, 2], "label": true}
{"input_ids": [1, 2], "labels": [-100, 2], "label": true}
{"input_ids": [1, 2], "labels": [-100, 2], "label": false})";
  EXPECT_THAT(Load(rows, {}, options).warnings,
              ElementsAre(HasSubstr("all of the first 2 rows have label: true")));
  options.max_rows = 0;
  EXPECT_THAT(Load(rows, {}, options).warnings, IsEmpty());
}

TEST_F(LabelledRowsTest, KtoNamesWhatIsWrongWithALabel) {
  const auto message = [&](const std::string& rows) {
    return FailureOf([&] { Load(rows, {}, KtoOptions()); }).message();
  };
  EXPECT_THAT(message(R"({"prompt": "Hi", "completion": " a"})"), HasSubstr("kto needs a label"));
  EXPECT_THAT(message(R"({"prompt": "Hi", "completion": " a", "label": 2})"),
              AllOf(HasSubstr("label"), HasSubstr("true or false")));
  EXPECT_THAT(message(R"({"prompt": "Hi", "completion": " a", "label": true})"),
              AllOf(HasSubstr("label: true"), HasSubstr("the one row left to train on has")));
  EXPECT_THAT(message(R"({"text": "Hi", "label": true})"), HasSubstr("no answer to judge"));
  EXPECT_THAT(message(R"({"input_ids": [1, 2], "label": true})"), HasSubstr("needs this column"));
  EXPECT_THAT(message(R"({"input_ids": [1, 2], "labels": [1, 2], "label": true})"),
              HasSubstr("no prompt"));
  EXPECT_THAT(message(R"({"messages": [{"role": "user", "content": "Hi"}], "label": true})"),
              HasSubstr("assistant's answer"));
}

TEST(MakeBatchTest, MismatchedAnswersComeFromTheRowBefore) {
  ExampleSet set;
  set.kind = RowKind::kLabelled;
  set.max_length = 4;
  constexpr int32_t kNone = kIgnoredLabel;
  set.sequences = {{{1, 2, 10}, {kNone, kNone, 10}},
                   {{3, 20, 21, 22}, {kNone, 20, 21, 22}},
                   {{4, 30}, {kNone, 30}}};
  set.desirable = {1, 0, 1};
  const std::vector<int64_t> rows = {2, 0, 1};
  const Batch batch = MakeBatch(set, rows);
  EXPECT_TRUE(batch.desirable_R.equal(at::tensor({1, 1, 0}).to(at::kBool)));
  ASSERT_NE(batch.mismatched, nullptr);
  // 4 with 1's answer, cut to 4; 1, 2 with 2's; 3 with 0's.
  EXPECT_TRUE(
      batch.mismatched->input_ids_T.equal(at::tensor({4, 20, 21, 22, 1, 2, 30, 3, 10}, at::kLong)));
  EXPECT_TRUE(batch.mismatched->labels_T.equal(
      at::tensor({kNone, 20, 21, 22, kNone, kNone, 30, kNone, 10}, at::kLong)));
  EXPECT_TRUE(batch.mismatched->cu_seqlens_S1.equal(at::tensor({0, 4, 7, 9}, at::kInt)));
  // A batch of one takes the answer of the data set's row before.
  const std::vector<int64_t> one = {0};
  EXPECT_TRUE(MakeBatch(set, one).mismatched->input_ids_T.equal(at::tensor({1, 2, 30}, at::kLong)));
}

}  // namespace
}  // namespace liger::trainer
