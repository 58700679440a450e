#include "worker/trainer/data/arrow_rows.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/row_reader.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;

// tools/fixtures/arrow_fixtures.py
const std::string kFolder = SourceDir() + "/tests/golden/data/arrow/";

std::string Bytes(const std::string& name) {
  std::ostringstream bytes;
  bytes << std::ifstream(kFolder + name, std::ios::binary).rdbuf();
  return bytes.str();
}

TEST(ArrowRows, ReadsWhatPyarrowReads) {
  const auto expected = ordered_json::parse(Bytes("rows.json"));
  for (const char* name : {"rows.parquet", "rows.arrow", "stream.arrow"}) {
    const auto rows = OpenRows(kFolder + name, 0);
    ASSERT_EQ(rows->size(), 25) << name;
    // Back and forth, through more parts than are kept.
    for (int64_t i : {24, 0, 9, 3, 16, 21}) EXPECT_EQ(rows->Parse(i), expected[i]) << name << i;
    for (int64_t i = 0; i < 25; ++i) EXPECT_EQ(rows->Parse(i), expected[i]) << name << " " << i;
    EXPECT_EQ(OpenRows(kFolder + name, 4)->size(), 4);
    EXPECT_EQ(OpenRows(kFolder + name, 4)->AboutInAll(), 25);
    EXPECT_NEAR(OpenRows(kFolder + name, {4, Bytes(name).size() / 2})->size(), 12, 1);
  }
}

TEST(ArrowRows, TheContentDecides) {
  for (const char* name : {"rows.parquet", "rows.arrow", "stream.arrow"}) {
    const TempFile file(Bytes(name), "rows.data");
    EXPECT_EQ(OpenRows(file.path(), 0)->size(), 25) << name;
  }
}

TEST(ArrowRows, GiveRowsOfEveryKind) {
  const auto rows = OpenRows(kFolder + "rows.parquet", 0);
  RowReaderOptions options = {.format = liger::v1::DATASET_FORMAT_MESSAGES, .vocab_size = 100};
  const Row chat = RowReader(*rows, options).Read(1);
  EXPECT_EQ(std::get<ordered_json>(std::get<TextRow>(chat.content).text)[0]["name"], "ann");
  options = {.format = liger::v1::DATASET_FORMAT_PROMPT_COMPLETION, .kind = RowKind::kLabelled};
  EXPECT_TRUE(RowReader(*rows, options).Read(1).desirable);  // kto_tag, whole numbers
  EXPECT_FALSE(RowReader(*rows, options).Read(2).desirable);
  options.names.columns = {{"kto_tag", "label"}};  // truth values
  EXPECT_FALSE(RowReader(*rows, options).Read(1).desirable);
  EXPECT_TRUE(RowReader(*rows, options).Read(2).desirable);
}

liger::v1::Failure TypeFailure(const std::string& name, const std::string& in_file) {
  const auto rows = OpenRows(kFolder + "types.parquet", 0);
  const RowReaderOptions options = {.format = liger::v1::DATASET_FORMAT_TEXT,
                                    .names = {.columns = {{name, in_file}}}};
  return FailureOf([&] { RowReader(*rows, options).Read(0); });
}

TEST(ArrowRows, AColumnOfTheWrongTypeIsNamedWithIt) {
  EXPECT_THAT(TypeFailure("text", "text").message(),
              AllOf(HasSubstr("types.parquet: row 1: column text (of type timestamp[us])"),
                    HasSubstr("must be a string")));
  EXPECT_THAT(TypeFailure("text", "count").message(),
              HasSubstr("column count (read as text) (of type int64): must be a string, not an "
                        "integer"));
  EXPECT_THAT(TypeFailure("text", "count").action(),
              AllOf(HasSubstr("Write the column as text"), HasSubstr("cast(pa.string())")));
  const auto bytes = TypeFailure("text", "bytes");
  EXPECT_THAT(bytes.message(),
              HasSubstr("(of type binary): must be a string, not a value of that"));
  EXPECT_THAT(bytes.action(), HasSubstr("cast(pa.string())"));
  EXPECT_THAT(TypeFailure("text", "nothing").message(), HasSubstr("column nothing"));
}

TEST(ArrowRows, AHistoryOfTheWrongTypeIsTheColumns) {
  const auto rows = OpenRows(kFolder + "types.parquet", 0);
  const RowReaderOptions options = {
      .format = liger::v1::DATASET_FORMAT_ALPACA,
      .names = {.columns = {{"instruction", "prompt"}, {"history", "count"}}}};
  EXPECT_EQ(FailureOf([&] { RowReader(*rows, options).Read(0); }).action(),
            "Write the column as lists of lists of two texts.");
}

TEST(ArrowRows, TwoColumnsOfOneNameAreRefused) {
  const auto failure = FailureOf([] { OpenRows(kFolder + "twice.parquet", 0); });
  EXPECT_THAT(failure.message(), HasSubstr("twice.parquet: names column \"text\" twice"));
  EXPECT_THAT(failure.action(), HasSubstr("other names of columns"));
}

// bad_ids.*: 25 rows, five columns with each of five ids; the other columns of a row are good.
TEST(ArrowRows, TokenIdsOutsideOfTheVocabularyAreNamedWithTheirRow) {
  const std::vector<std::string> sequence = {"input_ids", "labels"};
  const std::vector<std::string> pair = {"prompt_ids", "chosen_ids", "rejected_ids"};
  const std::vector<std::string> bad = {"100", "2147483648", "4294967301", "-4294967291", "-7"};
  for (const char* name : {"bad_ids.parquet", "bad_ids.arrow"}) {
    const auto rows = OpenRows(kFolder + name, 0);
    ASSERT_EQ(rows->size(), 25);
    RowReaderOptions options = {.format = liger::v1::DATASET_FORMAT_TOKENIZED, .vocab_size = 100};
    for (int64_t row = 0; row < rows->size(); ++row) {
      const size_t column = row % 5;
      const bool of_pair = column >= sequence.size();
      options.kind = of_pair ? RowKind::kPair : RowKind::kSequence;
      const RowReader reader(*rows, options);
      const auto failure = FailureOf([&] { reader.Read(row); });
      EXPECT_EQ(failure.row(), row + 1);
      EXPECT_THAT(failure.message(),
                  AllOf(HasSubstr(of_pair ? pair[column - 2] : sequence[column]),
                        HasSubstr(bad[row / 5])));
      options.kind = of_pair ? RowKind::kSequence : RowKind::kPair;
      EXPECT_NO_THROW(RowReader(*rows, options).Read(row));
    }
  }
}

TEST(ArrowRows, DamagedFilesAreRefused) {
  for (const char* name : {"rows.parquet", "rows.arrow"}) {
    const std::string bytes = Bytes(name);
    for (const size_t length : {size_t{0}, size_t{3}, size_t{8}, bytes.size() / 2,
                                bytes.size() - 1}) {
      const TempFile file(bytes.substr(0, length), name);
      const auto failure = FailureOf([&] {
        const auto rows = OpenRows(file.path(), 0);
        for (int64_t i = 0; i < rows->size(); ++i) rows->Parse(i);
      });
      EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA) << name << " " << length;
      EXPECT_THAT(failure.message(), HasSubstr(file.path()));
    }
  }
  const TempFile text("{\"a\": 1}\n", "rows.parquet");
  EXPECT_THAT(FailureOf([&] { OpenRows(text.path(), 0); }).message(), HasSubstr(text.path()));
}

}  // namespace
}  // namespace liger::trainer
