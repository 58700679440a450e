#include "worker/trainer/data/json_rows.h"

#include "tests/unit/data/test_util.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// 20 rows, of which row 17 is `broken`.
std::string ArrayWithRow17(const std::string& broken) {
  std::string text = "[\n";
  for (int i = 1; i <= 20; ++i) {
    text += "  " + (i == 17 ? broken : R"({"text": "a ] } \" , [ b"})") + (i < 20 ? ",\n" : "\n");
  }
  return text + "]\n";
}

std::string LinesWithRow17(const std::string& broken) {
  std::string text;
  for (int i = 1; i <= 20; ++i) text += (i == 17 ? broken : R"({"text": "x"})") + std::string("\n");
  return text;
}

liger::v1::Failure ReadAllFailure(const std::string& content) {
  const TempFile file(content);
  return FailureOf([&] {
    const JsonRows rows(file.path(), 0);
    for (int64_t i = 0; i < rows.size(); ++i) rows.Parse(i);
  });
}

TEST(JsonRows, SplitsArraysAndLines) {
  for (const std::string& content : {
           std::string(R"([{"a": "]}\\"}, {"a": [1, {"b": "\""}]},{}])"),
           std::string(
               "\xEF\xBB\xBF [\n{\"a\": \"]}\\\\\"}\n,\n{\"a\": [1, {\"b\": \"\\\"\"}]},{}\n ] \n"),
           std::string("{\"a\": \"]}\\\\\"}\r\n\n  {\"a\": [1, {\"b\": \"\\\"\"}]}\n{}"),
           std::string("{\"a\": \"]}\\\\\"}\r{\"a\": [1, {\"b\": \"\\\"\"}]}\r{}\r"),
       }) {
    const TempFile file(content);
    const JsonRows rows(file.path(), 0);
    ASSERT_EQ(rows.size(), 3) << content;
    EXPECT_EQ(rows.Parse(0)["a"], "]}\\");
    EXPECT_EQ(rows.Parse(1)["a"][1]["b"], "\"");
    EXPECT_TRUE(rows.Parse(2).empty());
  }
}

TEST(JsonRows, ReadsNoMoreRowsThanAsked) {
  const TempFile array("[{}, {}, {} nonsense");
  EXPECT_EQ(JsonRows(array.path(), 2).size(), 2);
  const TempFile lines("{}\n{}\nnonsense\n");
  EXPECT_EQ(JsonRows(lines.path(), 2).size(), 2);
}

class BrokenRow : public testing::TestWithParam<const char*> {};

TEST_P(BrokenRow, IsNamedInAnArray) {
  const auto failure = ReadAllFailure(ArrayWithRow17(GetParam()));
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(failure.row(), 17);
  EXPECT_THAT(failure.file(), HasSubstr("rows.json"));
  EXPECT_THAT(failure.message(), AllOf(HasSubstr("rows.json: row 17 (line 1"), HasSubstr("byte ")));
  EXPECT_THAT(failure.message(), Not(HasSubstr("json.exception")));
  EXPECT_NE(failure.action(), "");
}

TEST_P(BrokenRow, IsNamedInLines) {
  const auto failure = ReadAllFailure(LinesWithRow17(GetParam()));
  EXPECT_EQ(failure.row(), 17);
  EXPECT_THAT(failure.message(), HasSubstr("row 17 (line 17, column "));
}

INSTANTIATE_TEST_SUITE_P(All, BrokenRow,
                         testing::Values(R"({"text": "x")",        // no closing brace
                                         R"({"text": "x)",         // no closing quote
                                         R"({"text" "x"})",        // no colon
                                         R"({"text": x})",         // no quotes
                                         R"({"text": "x"}})",      // one brace too many
                                         R"({"text": "x",})",      // trailing comma
                                         R"({'text': 'x'})",       // Python's quotes
                                         "{\"text\": \"a\xFF\"}",  // not UTF-8
                                         "{\"text\": \"a\tb\"}",   // a raw control character
                                         R"({"text": "\ud800"})",  // half a surrogate pair
                                         R"({"text": NaN})",
                                         R"({"text": 1e999})"));  // no double holds it

// Values are copied and printed recursively; a row must not overflow the stack.
TEST(JsonRows, RowsThatNestTooDeepAreNamed) {
  const std::string open(100'000, '['), close(100'000, ']');
  for (const std::string& row : {"{\"a\": " + open + close + "}", "{\"a\": " + open}) {
    for (const std::string& content : {ArrayWithRow17(row), LinesWithRow17(row)}) {
      const auto failure = ReadAllFailure(content);
      EXPECT_EQ(failure.row(), 17);
      EXPECT_THAT(failure.message(), HasSubstr("nested more than 256 levels deep"));
    }
  }
  const TempFile deep("{\"a\": " + open.substr(0, 255) + close.substr(0, 255) + "}");
  EXPECT_EQ(JsonRows(deep.path(), 0).Parse(0).size(), 1u);
}

TEST(JsonRows, AFileCutWhileItIsReadIsTold) {
  const TempFile file(LinesWithRow17("{}"));
  const JsonRows rows(file.path(), 0);
  std::filesystem::resize_file(file.path(), 3);
  const auto failure = FailureOf([&] { rows.Parse(19); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(failure.message(), HasSubstr("rows.json was cut short"));
}

TEST(JsonRows, TellsThePlaceOfASyntaxErrorExactly) {
  // Row 2 begins in line 3; the bad byte is the 't' of tru}.
  const auto failure = ReadAllFailure("[{},\n\n{\"a\": 1,\n \"b\": tru}]");
  EXPECT_EQ(failure.row(), 2);
  EXPECT_THAT(failure.message(), HasSubstr("row 2 (line 4, column 10, byte 25)"));
}

TEST(JsonRows, NumbersThatJsonHasNotAreNamed) {
  for (const std::string word : {"NaN", "Infinity", "-Infinity"}) {
    for (const std::string& row : {"{\"text\": " + word + "}", "{\"text\": [1, " + word + "]}"}) {
      for (const std::string& content : {ArrayWithRow17(row), LinesWithRow17(row)}) {
        const auto failure = ReadAllFailure(content);
        EXPECT_EQ(failure.row(), 17);
        EXPECT_THAT(failure.message(), HasSubstr("not valid JSON: " + word + " is no value of it"));
        EXPECT_THAT(failure.action(), HasSubstr("Write null or a number: Python's json.dumps"));
      }
    }
  }
  EXPECT_THAT(ReadAllFailure(R"({"text": "\NaN"})").message(), HasSubstr("invalid string"));
  EXPECT_THAT(ReadAllFailure("{\"text\": \"NaN\", \"a\": x}").message(), HasSubstr("syntax error"));
}

TEST(JsonRows, ARowOfSeveralLinesIsToldWhatJsonLinesAre) {
  for (const char* content :
       {"{\n  \"text\": \"a\"\n}\n", "{\"a\": 1}\n{\"data\": [\n  {\"a\": 1}\n]}\n"}) {
    const auto failure = ReadAllFailure(content);
    EXPECT_THAT(failure.message(), HasSubstr("not valid JSON"));
    EXPECT_THAT(failure.action(), HasSubstr("a row is one line"));
  }
  EXPECT_THAT(ReadAllFailure("{\"a\": 1\n{\"a\": 2}\n").action(), HasSubstr("Correct the row"));
}

TEST(JsonRows, RowsMustBeObjects) {
  EXPECT_THAT(ReadAllFailure("[{}, 3]").message(),
              HasSubstr("row 2 (line 1): a row must be an object with columns, not number"));
  EXPECT_EQ(ReadAllFailure("{}\n\"x\"\n").row(), 2);
}

TEST(JsonRows, TruncatedAndForeignFilesAreRefused) {
  EXPECT_THAT(ReadAllFailure("[{\"a\": 1}, {\"a\"").message(), HasSubstr("row 2"));
  EXPECT_THAT(ReadAllFailure("[{\"a\": 1}").message(), HasSubstr("before the array's ']'"));
  EXPECT_THAT(ReadAllFailure("[{\"a\": 1} {\"a\": 2}]").message(),
              HasSubstr("no ',' or ']' follows the row"));
  EXPECT_THAT(ReadAllFailure("[{}] x").message(), HasSubstr("text follows the array's ']'"));
  EXPECT_THAT(ReadAllFailure("[{\"a\": 1},\n]").message(),
              HasSubstr("not valid JSON: no row stands between this ',' and"));
  EXPECT_THAT(ReadAllFailure("[]").message(), HasSubstr("holds no rows"));
  EXPECT_THAT(ReadAllFailure("").message(), HasSubstr("the file is empty"));
  EXPECT_THAT(ReadAllFailure(" \n ").message(), HasSubstr("the file is empty"));
  EXPECT_THAT(ReadAllFailure("PAR1...").message(),
              HasSubstr("neither a JSON array nor JSON lines"));
}

TEST(JsonRows, OtherTextsAreToldWhatToBecome) {
  for (const char* content : {"[{\"a\": \"caf\xE9\"}]", "{}\n{\"a\": \"caf\xE9!\"}\n"}) {
    const auto failure = ReadAllFailure(content);
    EXPECT_THAT(failure.message(), HasSubstr("): is not UTF-8"));
    EXPECT_THAT(failure.action(), HasSubstr("iconv -f latin1 -t utf8"));
  }
  const auto action = [](const std::string& name) {
    const TempFile file("prompt\tcompletion\na\tb\n", name);
    return FailureOf([&] { JsonRows(file.path(), 0); }).action();
  };
  EXPECT_THAT(action("rows.tsv"), HasSubstr("Tab-separated text is not read"));
  EXPECT_THAT(action("rows.txt"), HasSubstr("or a .csv file"));
}

TEST(JsonRows, UnreadablePathsAreRefused) {
  EXPECT_THAT(FailureOf([] { JsonRows("/nonexistent/x.json", 0); }).message(),
              HasSubstr("cannot read /nonexistent/x.json: No such file"));
  EXPECT_THAT(FailureOf([] { JsonRows("/tmp", 0); }).message(), HasSubstr("Is a directory"));
  EXPECT_THAT(FailureOf([] { JsonRows("/dev/null", 0); }).message(), HasSubstr("Invalid argument"));
}

}  // namespace
}  // namespace liger::trainer
