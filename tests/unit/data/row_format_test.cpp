// What format a file's columns show where its first row leaves some of them empty.
#include "worker/trainer/data/row_format.h"

#include <map>

#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/row_reader.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

liger::v1::DatasetFormat FormatOf(const std::string& content, const std::string& name, RowKind kind,
                                  const std::map<std::string, std::string>& columns = {}) {
  const TempFile file(content, name);
  const auto rows = OpenRows(file.path(), 0);
  return RowReader(*rows, {.kind = kind, .vocab_size = 100, .names = {.columns = columns}})
      .format();
}

// Opens the file and reads row `index`.
liger::v1::Failure FailureAt(int64_t index, const std::string& content, const std::string& name,
                             RowKind kind) {
  const TempFile file(content, name);
  const auto rows = OpenRows(file.path(), 0);
  return FailureOf([&] { RowReader(*rows, {.kind = kind, .vocab_size = 100}).Read(index); });
}

// {"data": [...]}, on one line.
TEST(RowFormat, AnObjectAroundTheRowsIsNamed) {
  const auto failure = FailureAt(0, R"({"data": [{"prompt": "a", "completion": "b"}]})",
                                 "rows.json", RowKind::kSequence);
  EXPECT_THAT(failure.message(), HasSubstr("column data: is a list and all that the row has"));
  EXPECT_THAT(failure.action(), HasSubstr("write that list alone to the file"));
}

// The job names a format, and the columns show another.
TEST(RowFormat, AWrongNameOfTheFormatIsBlamedOnTheJob) {
  const TempFile file(R"({"prompt": "a", "completion": "b"})", "rows.jsonl");
  const auto rows = OpenRows(file.path(), 0);
  for (const auto format : {liger::v1::DATASET_FORMAT_PREFERENCE, liger::v1::DATASET_FORMAT_ALPACA,
                            liger::v1::DATASET_FORMAT_SHAREGPT, liger::v1::DATASET_FORMAT_TEXT}) {
    const auto failure = FailureOf([&] { RowReader(*rows, {.format = format}); });
    EXPECT_EQ(failure.field(), "dataset.format");
    EXPECT_THAT(failure.message(),
                AllOf(HasSubstr("(prompt, completion) are those of the format PROMPT_COMPLETION"),
                      HasSubstr("dataset.format is ")));
  }
  EXPECT_EQ(RowReader(*rows, {.format = liger::v1::DATASET_FORMAT_MESSAGES}).format(),
            liger::v1::DATASET_FORMAT_MESSAGES);
  const TempFile pairs(R"({"prompt": "a", "chosen": "b", "rejected": "c"})", "pairs.jsonl");
  const auto pair_rows = OpenRows(pairs.path(), 0);
  const auto failure = FailureOf(
      [&] { RowReader(*pair_rows, {.format = liger::v1::DATASET_FORMAT_PROMPT_COMPLETION}); });
  EXPECT_THAT(failure.action(), HasSubstr("set it to PREFERENCE"));
  for (const auto& [prompt, format] :
       {std::pair("instruction", "ALPACA"), {"conversations", "SHAREGPT"}}) {
    const TempFile others(
        R"({")" + std::string(prompt) + R"(": "a", "chosen": "b", "rejected": "c"})",
        "others.jsonl");
    const auto other_rows = OpenRows(others.path(), 0);
    EXPECT_THAT(FailureOf([&] {
                  RowReader(*other_rows, {.format = liger::v1::DATASET_FORMAT_PREFERENCE,
                                          .kind = RowKind::kPair});
                }).message(),
                HasSubstr(std::string("are those of the format ") + format));
  }
}

TEST(RowFormat, RowsByKeysAndWholeColumnsAreNamed) {
  const auto by_key =
      FailureAt(0, R"({"0": {"text": "a"}, "1": {"text": "b"}})", "rows.json", RowKind::kSequence);
  EXPECT_THAT(by_key.message(), HasSubstr("is an object of rows (by the keys 0, 1)"));
  EXPECT_THAT(by_key.action(), HasSubstr("an array of the rows"));
  const auto columns = FailureAt(0, R"({"question": {"0": "a"}, "answer": {"0": "b"}})",
                                 "rows.json", RowKind::kSequence);
  EXPECT_THAT(columns.message(), HasSubstr("are objects by row number"));
  EXPECT_THAT(columns.action(), HasSubstr("orient='records'"));
  for (const auto& [content, are] : std::vector<std::pair<std::string, std::string>>{
           {R"({"prompt": {"3": "a", "17": "c"}, "completion": {"3": "b", "17": "d"}})",
            "(prompt, completion) are objects by row number"},
           {R"({"prompt": ["a", "c"], "completion": ["b", "d"]})",
            "(prompt, completion) are lists of all rows' values"}}) {
    EXPECT_THAT(FailureAt(0, content, "rows.json", RowKind::kSequence).message(), HasSubstr(are));
  }
  // Of several rows each is one.
  for (const std::string row :
       {R"({"translation": {"en": "a", "de": "b"}})", R"({"talk": ["a"]})"}) {
    EXPECT_THAT(FailureAt(0, row + "\n" + row + "\n", "rows.jsonl", RowKind::kSequence).message(),
                HasSubstr("are those of no dataset format"));
  }
}

// Lists of all rows' values, whatever lies beside the texts; a row may have lists of its own.
TEST(RowFormat, WholeColumnsOfAnyKindAreNamed) {
  const std::string message = R"({"role": "user", "content": "a"})";
  for (const std::string& content : std::vector<std::string>{
           R"({"prompt": ["a", "b"], "completion": ["c", "d"], "label": [true, false]})",
           R"({"instruction": ["a", "b"], "input": ["", null], "output": ["c", "d"]})",
           R"({"text": ["a", "b"]})", R"({"input_ids": [[1, 2], [3]]})",
           R"({"messages": [[)" + message + "], [" + message + R"(]], "id": [1, 2]})"}) {
    const auto failure = FailureAt(0, content, "rows.json", RowKind::kSequence);
    EXPECT_THAT(failure.message(), HasSubstr("are lists of all rows' values")) << content;
    EXPECT_THAT(failure.action(), HasSubstr("Write a row a line"));
  }
  const std::string row = R"({"messages": [)" + message + R"(], "tags": ["a"]})";
  EXPECT_EQ(FormatOf(row, "rows.json", RowKind::kSequence), liger::v1::DATASET_FORMAT_MESSAGES);
  const std::string ids = R"({"input_ids": [1, 2], "tokens": ["a", "b"]})";
  EXPECT_EQ(FormatOf(ids, "rows.json", RowKind::kSequence), liger::v1::DATASET_FORMAT_TOKENIZED);
}

// A conversation is no list of rows, whatever its column is called.
TEST(RowFormat, ARowsMessagesUnderAnotherNameAreNoRows) {
  const std::string talk = R"([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}])";
  for (const std::string& row : {R"({"conversation": )" + talk + "}",
                                 R"({"id": 1, "tags": [], "conversation": )" + talk + "}"}) {
    const auto failure = FailureAt(0, row, "rows.json", RowKind::kSequence);
    EXPECT_THAT(failure.message(), HasSubstr("conversation) are those of no dataset format"));
    EXPECT_THAT(failure.action(),
                testing::StartsWith("Set dataset.columns: {messages: conversation}; or else: "));
    EXPECT_EQ(FormatOf(row, "rows.json", RowKind::kSequence, {{"messages", "conversation"}}),
              liger::v1::DATASET_FORMAT_MESSAGES);
  }
  const auto bare = FailureAt(0, R"({"talk": [{"role": "user", "content": "q"}]})", "rows.json",
                              RowKind::kSequence);
  EXPECT_THAT(bare.action(), testing::StartsWith("Give instruction and output;"));
  // It is the prompt alone, and the answer is elsewhere.
  const auto prompt = FailureAt(0,
                                R"({"context": [{"role": "user", "content": "q"},
                                                {"role": "assistant", "content": "a"},
                                                {"role": "user", "content": "q"}],
                                    "reply": "a"})",
                                "rows.json", RowKind::kSequence);
  EXPECT_THAT(prompt.action(), testing::Not(HasSubstr("messages: context")));
}

// The mapping that is told reads them.
TEST(RowFormat, RowsWithOtherProgramsNamesAreToldTheMapping) {
  using Columns = std::map<std::string, std::string>;
  const auto told = [](const std::string& row, const Columns& columns = {},
                       RowKind kind = RowKind::kSequence) {
    const TempFile file(row, "rows.jsonl");
    const auto rows = OpenRows(file.path(), 0);
    return FailureOf([&] { RowReader(*rows, {.kind = kind, .names = {.columns = columns}}); })
        .action();
  };
  const std::string pair = R"({"query": "q", "response": "a")";
  const Columns to_prompt = {{"prompt", "query"}, {"completion", "response"}};
  const std::string in_words = "Set dataset.columns: {completion: response, prompt: query}; ";
  EXPECT_THAT(told(pair + "}"), testing::StartsWith(in_words));
  EXPECT_THAT(told(pair + R"(, "history": null})"), testing::StartsWith(in_words));
  EXPECT_THAT(told(pair + "}", {{"prompt", "query"}}), testing::StartsWith(in_words));
  EXPECT_EQ(FormatOf(pair + "}", "rows.jsonl", RowKind::kSequence, to_prompt),
            liger::v1::DATASET_FORMAT_PROMPT_COMPLETION);
  const std::string history = pair + R"(, "history": [["q", "a"]]})";
  EXPECT_THAT(told(history), testing::StartsWith("Set dataset.columns: {instruction: query, "
                                                 "output: response}; "));
  EXPECT_EQ(FormatOf(history, "rows.jsonl", RowKind::kSequence,
                     {{"instruction", "query"}, {"output", "response"}}),
            liger::v1::DATASET_FORMAT_ALPACA);
  EXPECT_THAT(told(R"({"prompt": "q", "answer": "a"})"),
              testing::StartsWith("Set dataset.columns: {completion: answer}; "));
  const std::string dolly = R"({"instruction": "q", "context": "c", "response": "a"})";
  EXPECT_THAT(FailureAt(0, dolly, "rows.jsonl", RowKind::kSequence).action(),
              HasSubstr("say so in dataset.columns (input: context, output: response)"));
  EXPECT_THAT(told(R"({"question": "q", "context": "c", "response": "a"})"),
              testing::StartsWith("Set dataset.columns: {input: context, instruction: question, "
                                  "output: response}; "));
  EXPECT_THAT(told(R"({"question": "q", "input": "c", "response": "a"})"),
              testing::StartsWith("Set dataset.columns: {instruction: question, output: "));
  EXPECT_THAT(told(R"({"question": "q", "ctx": "c", "response": "a"})"),
              testing::StartsWith("Set dataset.columns: {input: ctx, instruction: question, "));
  for (const std::string context : {"\"q\"", "[\"c\"]", "null"}) {
    EXPECT_THAT(told(pair + R"(, "context": )" + context + "}"), testing::StartsWith(in_words));
  }
  // No text, no answer, or no pair.
  for (const std::string row : {R"({"question": "q", "answers": ["a"]})", R"({"query": "q"})",
                                R"({"question": "q", "answer": 3})"}) {
    EXPECT_THAT(told(row), testing::StartsWith("Give instruction and output;")) << row;
  }
  EXPECT_THAT(told(pair + "}", {}, RowKind::kPair),
              testing::StartsWith("Give instruction and output;"));
}

// OpenOrca's.
TEST(RowFormat, ASystemPromptOfAnotherNameIsPartOfTheMapping) {
  const auto told = [](const std::string& row) {
    return FailureAt(0, row, "rows.jsonl", RowKind::kSequence).action();
  };
  const std::string talk = R"([{"role": "user", "content": "q"},
                               {"role": "assistant", "content": "a"}])";
  for (const std::string name : {"system_prompt", "system_message", "sys"}) {
    const std::string field = R"({")" + name + R"(": "", )", system = "system: " + name;
    const std::string row = field + R"("id": "1", "question": "q", "response": "a")";
    EXPECT_THAT(told(row + "}"),
                testing::StartsWith("Set dataset.columns: {instruction: question, output: "
                                    "response, " +
                                    system + "}; "));
    EXPECT_EQ(FormatOf(row + "}", "rows.jsonl", RowKind::kSequence,
                       {{"instruction", "question"}, {"output", "response"}, {"system", name}}),
              liger::v1::DATASET_FORMAT_ALPACA);
    EXPECT_THAT(told(row + R"(, "context": "c"})"),
                testing::StartsWith("Set dataset.columns: {input: context, instruction: question, "
                                    "output: response, " +
                                    system + "}; "));
    EXPECT_THAT(told(field + R"("instruction": "q", "response": "a"})"),
                HasSubstr("dataset.columns (output: response, " + system + ")"));
    EXPECT_THAT(told(R"([)" + field + R"("conversation": )" + talk + "}]"),
                testing::StartsWith("Set dataset.columns: {conversations: conversation, " + system +
                                    "}; "));
  }
  EXPECT_THAT(told(R"({"system": "s", "sys": "x", "question": "q", "response": "a"})"),
              testing::StartsWith("Set dataset.columns: {instruction: question, output: "
                                  "response}; "));
}

TEST(RowFormat, RowsInsideOfAKeyAreNamed) {
  const auto failure = [](const std::string& content,
                          const std::map<std::string, std::string>& columns = {}) {
    const TempFile file(content, "rows.json");
    const auto rows = OpenRows(file.path(), 0);
    return FailureOf([&] { RowReader(*rows, {.names = {.columns = columns}}); });
  };
  const std::string rows = R"([{"prompt": "a", "completion": "b"}])";
  for (const std::map<std::string, std::string>& columns :
       {std::map<std::string, std::string>{}, {{"prompt", "question"}}}) {
    const auto inside = failure(R"({"version": "1", "data": )" + rows + "}", columns);
    EXPECT_THAT(inside.message(), HasSubstr("column data: is a list of objects"));
    EXPECT_THAT(inside.action(), HasSubstr("write that list alone to the file"));
  }
  const auto splits = failure(R"({"train": )" + rows + R"(, "test": )" + rows + "}");
  EXPECT_THAT(splits.message(), HasSubstr("(train, test) are the rows of several splits"));
  EXPECT_THAT(splits.action(), HasSubstr("to a file of its own"));
  const auto pandas = failure(
      R"({"columns": ["prompt", "completion"], "index": [0, 1], "data": [["a", "b"], ["c", "d"]]})");
  EXPECT_THAT(pandas.message(), HasSubstr("are pandas' orient='split'"));
  EXPECT_THAT(pandas.action(), HasSubstr("orient='records'"));
}

struct MappedFormat {
  const char* row;
  RowKind kind;
  std::map<std::string, std::string> columns;
  liger::v1::DatasetFormat format;
};

class MappedFormats : public testing::TestWithParam<MappedFormat> {};

TEST_P(MappedFormats, AreThoseThatReadMostOfTheMapping) {
  const MappedFormat& param = GetParam();
  EXPECT_EQ(FormatOf(param.row, "rows.jsonl", param.kind, param.columns), param.format);
}

INSTANTIATE_TEST_SUITE_P(
    All, MappedFormats,
    testing::Values(
        MappedFormat{R"({"instruction": "i", "question": "q", "chosen": "c", "rejected": "r"})",
                     RowKind::kPair,
                     {{"prompt", "question"}},
                     liger::v1::DATASET_FORMAT_PREFERENCE},
        MappedFormat{R"({"instruction": "i", "response": "r", "conversations": [{}]})",
                     RowKind::kSequence,
                     {{"output", "response"}},
                     liger::v1::DATASET_FORMAT_ALPACA},
        MappedFormat{R"({"instruction": "i", "question": "q", "answer": "a", "output": "o"})",
                     RowKind::kSequence,
                     {{"prompt", "question"}, {"completion", "answer"}},
                     liger::v1::DATASET_FORMAT_PROMPT_COMPLETION},
        MappedFormat{R"({"prompt": "q", "completion": "a", "body": "t"})",
                     RowKind::kSequence,
                     {{"text", "body"}},
                     liger::v1::DATASET_FORMAT_TEXT},
        // No format reads them, or each.
        MappedFormat{R"({"text": "t", "ok": true, "messages": []})",
                     RowKind::kSequence,
                     {{"label", "ok"}},
                     liger::v1::DATASET_FORMAT_MESSAGES},
        MappedFormat{R"({"instruction": "i", "output": "o", "persona": "p", "conversations": []})",
                     RowKind::kSequence,
                     {{"system", "persona"}},
                     liger::v1::DATASET_FORMAT_SHAREGPT}));

// KTO's pairs are read as such, with or without the job's word.
TEST(RowFormat, PairsOfKtoArePreferences) {
  for (const char* beside : {R"("text": "t")", R"("messages": [{"role": "user", "content": "p"}])",
                             R"("completion": "c")"}) {
    const std::string row =
        std::string(R"({"prompt": "p", "chosen": "c", "rejected": "r", )") + beside + "}";
    EXPECT_EQ(FormatOf(row, "rows.jsonl", RowKind::kLabelled), liger::v1::DATASET_FORMAT_PREFERENCE)
        << beside;
  }
  const TempFile file(R"({"prompt": "p", "chosen": "c", "rejected": "r", "text": "t"})", "r.jsonl");
  const auto rows = OpenRows(file.path(), 0);
  EXPECT_EQ(RowReader(*rows, {.format = liger::v1::DATASET_FORMAT_TEXT, .kind = RowKind::kLabelled})
                .format(),
            liger::v1::DATASET_FORMAT_PREFERENCE);
}

// Magpie's: the messages hold the prompt, which instruction repeats.
TEST(RowFormat, PairsOfMessagesBesideAnInstructionArePreferences) {
  const std::string row = R"({"instruction": "q", "chosen": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "b"}]})";
  const TempFile file("[" + row + "]", "rows.json");
  const auto rows = OpenRows(file.path(), 0);
  for (const auto format : {liger::v1::DATASET_FORMAT_AUTO, liger::v1::DATASET_FORMAT_PREFERENCE}) {
    const RowReader reader(*rows, {.format = format, .kind = RowKind::kPair});
    EXPECT_EQ(reader.format(), liger::v1::DATASET_FORMAT_PREFERENCE);
    EXPECT_TRUE(std::holds_alternative<PreferenceRow>(reader.Read(0).content));
  }
}

struct EmptyField {
  const char* content;
  const char* name;
  RowKind kind;
  int64_t row;
  const char* message;
};

class EmptyFields : public testing::TestWithParam<EmptyField> {};

TEST_P(EmptyFields, AreToldByRowAndColumn) {
  const auto& [content, name, kind, row, message] = GetParam();
  const auto failure = FailureAt(row - 1, content, name, kind);
  EXPECT_EQ(failure.row(), row);
  EXPECT_THAT(failure.message(),
              AllOf(HasSubstr(std::string(name) + ": row "), HasSubstr(message)));
  EXPECT_THAT(failure.action(), HasSubstr("fill it in, or remove the row"));
}

constexpr RowKind kS = RowKind::kSequence, kP = RowKind::kPair, kL = RowKind::kLabelled;
INSTANTIATE_TEST_SUITE_P(
    All, EmptyFields,
    testing::Values(
        // In the first row, with and without other rows that fill the column.
        EmptyField{"prompt,completion\na,\nb,c\n", "r.csv", kS, 1, "column completion: is empty"},
        EmptyField{"prompt,completion\na,\n", "r.csv", kS, 1, "column completion: is empty"},
        EmptyField{"prompt,completion\n,\nb,c\n", "r.csv", kS, 1,
                   "column prompt: is empty; the row has: none"},
        EmptyField{"prompt,chosen,rejected\na,,c\nb,c,d\n", "r.csv", kP, 1,
                   "column chosen: is empty"},
        EmptyField{"prompt,chosen,rejected\na,b,\n", "r.csv", kP, 1, "column rejected: is empty"},
        EmptyField{"prompt,completion,label\na,b,\nb,c,true\n", "r.csv", kL, 1,
                   "column label: is empty"},
        EmptyField{"prompt,completion,kto_tag\na,b,\n", "r.csv", kL, 1, "column kto_tag: is empty"},
        EmptyField{"{\"text\": null}\n{\"text\": \"a\"}\n", "r.jsonl", kS, 1,
                   "column text: is null"},
        EmptyField{"{\"messages\": null}\n", "r.jsonl", kS, 1, "column messages: is null"},
        EmptyField{"{\"instruction\": null, \"output\": \"b\", \"text\": \"t\"}\n"
                   "{\"instruction\": \"a\", \"output\": \"b\", \"text\": \"t\"}\n",
                   "r.jsonl", kS, 1, "column instruction: is null"},
        // In a later row.
        EmptyField{"prompt,completion\na,b\nc,\n", "r.csv", kS, 2, "column completion: is empty"},
        EmptyField{"{\"text\": \"a\"}\n{\"text\": null}\n", "r.jsonl", kS, 2,
                   "column text: is null"},
        // A prompt that is not there is not taken from the answers where the file gives prompts.
        EmptyField{"prompt,chosen,rejected\na,b c,b d\n,b c,b d\n", "r.csv", kP, 2,
                   "column prompt: is empty"}));

TEST(RowFormat, ColumnsThatNoRowFillsAreOfAnotherFormat) {
  const auto messages = liger::v1::DATASET_FORMAT_MESSAGES;
  const std::string joined =
      "{\"conversations\": null, \"instruction\": null, \"chosen\": null, \"rejected\": null, "
      "\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n";
  EXPECT_EQ(FormatOf(joined, "r.jsonl", kS), messages);
  // 63 rows without it are followed by one that has it.
  std::string rows;
  for (int i = 0; i < 63; ++i) rows += joined;
  EXPECT_EQ(FormatOf(rows + "{\"instruction\": \"i\", \"output\": \"o\"}\n", "r.jsonl", kS),
            liger::v1::DATASET_FORMAT_ALPACA);
  // Pairs whose prompts are all empty have them in their answers.
  const std::string pairs = "prompt,chosen,rejected\n,the sky,the sea\n";
  EXPECT_EQ(FormatOf(pairs, "r.csv", kP), liger::v1::DATASET_FORMAT_PREFERENCE);
  const TempFile file(pairs, "r.csv");
  const auto csv = OpenRows(file.path(), 0);
  const Row row = RowReader(*csv, {.kind = kP}).Read(0);
  EXPECT_EQ(std::get<std::string>(std::get<PreferenceRow>(row.content).prompt), "the s");
}

TEST(RowFormat, SftIsTrainedOnJoinedRowsWhosePairsAreEmpty) {
  EXPECT_EQ(FormatOf("{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}], "
                     "\"chosen\": null, \"rejected\": null}\n",
                     "r.jsonl", kS),
            liger::v1::DATASET_FORMAT_SHAREGPT);
}

}  // namespace
}  // namespace liger::trainer
