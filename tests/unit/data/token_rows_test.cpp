#include "worker/trainer/data/token_rows.h"

#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/json_rows.h"

namespace liger::trainer {
namespace {

Example ReadRow(const std::string& row, const RowReaderOptions& options) {
  const TempFile file("[" + row + "]");
  const JsonRows rows(file.path(), 0);
  return std::get<Example>(RowReader(rows, options).Read(0).content);
}

std::vector<int32_t> Labels(const std::string& row, const RowReaderOptions& options) {
  return ReadRow(row, options).labels;
}

// TRL's columns of tokenised SFT data.
TEST(TokenRows, MasksOfTokenisedRowsBecomeLabels) {
  using Ids = std::vector<int32_t>;
  const auto labels = [](const std::string& columns, std::optional<bool> completion_only) {
    return Labels(R"({"input_ids": [5, 6, 7, 8], )" + columns + "}",
                  {.completion_only_loss = completion_only, .vocab_size = 100});
  };
  const std::string completion = R"("completion_mask": [0, 0, 1, 1])";
  const std::string assistant = R"("assistant_masks": [false, true, true, false])";
  EXPECT_EQ(labels(completion, {}), (Ids{-100, -100, 7, 8}));
  EXPECT_EQ(labels(completion, true), (Ids{-100, -100, 7, 8}));
  EXPECT_EQ(labels(completion, false), (Ids{5, 6, 7, 8}));
  EXPECT_EQ(labels(assistant, {}), (Ids{-100, 6, 7, -100}));
  EXPECT_EQ(labels(assistant, false), (Ids{-100, 6, 7, -100}));
  EXPECT_EQ(labels(completion + ", " + assistant, {}), (Ids{-100, -100, 7, -100}));
  EXPECT_EQ(labels(completion + R"(, "labels": [5, -100, -100, 8])", {}), (Ids{5, -100, -100, 8}));
  EXPECT_EQ(Labels(R"({"input_ids": [5, 6], "completion_mask": [0, 1], "label": true})",
                   {.kind = RowKind::kLabelled, .vocab_size = 100}),
            (Ids{-100, 6}));
}

// A row that lacks them would be trained on whole.
TEST(TokenRows, LabelsAndMasksOfTheFileAreNeededInEveryRow) {
  for (const std::string column : {"labels", "completion_mask", "assistant_masks"}) {
    const TempFile file(R"([{"input_ids": [0, 1], ")" + column +
                        R"(": [0, 1]}, {"input_ids": [0, 1]}])");
    const JsonRows rows(file.path(), 0);
    const auto failure = FailureOf([&] { RowReader(rows, {.vocab_size = 100}).Read(1); });
    EXPECT_EQ(failure.field(), column);
    EXPECT_EQ(failure.row(), 2);
  }
}

TEST(TokenRows, MasksThatFitNoTokensAreRefused) {
  const auto failure = [](const std::string& mask) {
    return FailureOf([&] {
      Labels(R"({"input_ids": [5, 6], "completion_mask": )" + mask + "}", {.vocab_size = 100});
    });
  };
  EXPECT_EQ(failure("[1]").field(), "completion_mask");
  EXPECT_THAT(failure("[1]").message(),
              testing::HasSubstr("is of length 1, and input_ids of length 2"));
  EXPECT_EQ(failure("[0, 2]").field(), "completion_mask[1]");
  EXPECT_THAT(failure("[0, 2]").message(), testing::HasSubstr("is 2, not 0 or 1"));
  EXPECT_EQ(failure("\"01\"").field(), "completion_mask");
}

TEST(TokenRows, PaddingIsLeftOutByTheAttentionMask) {
  using Ids = std::vector<int32_t>;
  const auto read = [](const std::string& columns, RowKind kind = RowKind::kSequence) {
    return ReadRow(R"({"input_ids": [2, 5, 6, 7, 2, 2], )" + columns + R"(, "label": true})",
                   {.kind = kind, .vocab_size = 100});
  };
  const Example behind = read(R"("attention_mask": [1, 1, 1, 1, 0, 0])");
  EXPECT_EQ(behind.input_ids, (Ids{2, 5, 6, 7}));
  EXPECT_EQ(behind.labels, (Ids{2, 5, 6, 7}));
  const Example around =
      read(R"("attention_mask": [0, 1, 1, 1, 0, 0], "labels": [2, -100, 6, 7, 2, -100])");
  EXPECT_EQ(around.input_ids, (Ids{5, 6, 7}));
  EXPECT_EQ(around.labels, (Ids{-100, 6, 7}));
  // The other masks are as long as the padded tokens.
  EXPECT_EQ(read(R"("attention_mask": [0, 1, 1, 1, 1, 0], "completion_mask": [0, 0, 0, 1, 1, 1])",
                 RowKind::kLabelled)
                .labels,
            (Ids{-100, -100, 7, 2}));
  EXPECT_EQ(read(R"("attention_mask": [1, 1, 1, 1, 1, 1])").input_ids, (Ids{2, 5, 6, 7, 2, 2}));
  EXPECT_EQ(read(R"("attention_mask": null)").input_ids, (Ids{2, 5, 6, 7, 2, 2}));
  EXPECT_TRUE(read(R"("attention_mask": [0, 0, 0, 0, 0, 0])").input_ids.empty());
}

TEST(TokenRows, AttentionMasksThatAreNotOfPaddingAreRefused) {
  const auto failure = [](const std::string& mask) {
    return FailureOf([&] {
      ReadRow(R"({"input_ids": [5, 6, 7, 8], "attention_mask": )" + mask + "}",
              {.vocab_size = 100});
    });
  };
  EXPECT_EQ(failure("[0, 1, 0, 1]").field(), "attention_mask[2]");
  EXPECT_EQ(failure("[0, 1, 0, 1]").row(), 1);
  EXPECT_THAT(failure("[0, 1, 0, 1]").message(), testing::HasSubstr("is 0 between tokens"));
  EXPECT_THAT(failure("[1, 1]").message(),
              testing::HasSubstr("is of length 2, and input_ids of length 4"));
  EXPECT_EQ(failure("[1, 1, 1, -1]").field(), "attention_mask[3]");
  EXPECT_THAT(failure("[1, 1, 1, -1]").message(), testing::HasSubstr("is -1, not 0 or 1"));
}

}  // namespace
}  // namespace liger::trainer
