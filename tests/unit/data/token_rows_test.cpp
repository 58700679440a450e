#include "worker/trainer/data/token_rows.h"

#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/json_rows.h"

namespace liger::trainer {
namespace {

std::vector<int32_t> Labels(const std::string& row, const RowReaderOptions& options) {
  const TempFile file("[" + row + "]");
  const JsonRows rows(file.path(), 0);
  const Row read = RowReader(rows, options).Read(0);
  const auto& labels = std::get<Example>(read.content).labels;
  return {labels.begin(), labels.end()};
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

}  // namespace
}  // namespace liger::trainer
