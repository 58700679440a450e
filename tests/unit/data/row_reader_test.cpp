#include "worker/trainer/data/row_reader.h"

#include <fstream>
#include <sstream>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/json_rows.h"
#include "worker/trainer/text/chat_template.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;

RowReaderOptions Options(RowKind kind, bool chat = true) {
  RowReaderOptions options;
  options.kind = kind;
  options.has_chat_template = chat;
  options.vocab_size = 100;
  return options;
}

Row ReadOne(const std::string& row, const RowReaderOptions& options) {
  const TempFile file("[" + row + "]");
  const JsonRows rows(file.path(), 0);
  return RowReader(rows, options).Read(0);
}

liger::v1::Failure ReadFailure(const std::string& row, const RowReaderOptions& options) {
  return FailureOf([&] { ReadOne(row, options); });
}

const RowReaderOptions kSft = Options(RowKind::kSequence);
const RowReaderOptions kPair = Options(RowKind::kPair);

std::string Dump(const Passage& passage) {
  return IsConversation(passage) ? std::get<ordered_json>(passage).dump()
                                 : std::get<std::string>(passage);
}

TEST(RowReader, AlpacaBecomesAConversation) {
  const Row row = ReadOne(
      R"({"instruction": "Add.", "input": "1 1", "output": "2", "system": "Be brief.",
          "history": [["Hi", "Hello"]]})",
      kSft);
  const auto& content = std::get<PromptCompletionRow>(row.content);
  EXPECT_EQ(Dump(content.prompt),
            R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},)"
            R"({"role":"assistant","content":"Hello"},{"role":"user","content":"Add.\n1 1"}])");
  EXPECT_EQ(Dump(content.completion), R"([{"role":"assistant","content":"2"}])");
  const Row input = ReadOne(R"({"instruction": "", "input": "1 1", "output": "2"})", kSft);
  EXPECT_EQ(Dump(std::get<PromptCompletionRow>(input.content).prompt),
            R"([{"role":"user","content":"1 1"}])");
}

TEST(RowReader, AlpacaWithoutAChatTemplateTakesStanfordsPrompt) {
  const Row row = ReadOne(R"({"instruction": "Add.", "input": null, "output": "2"})",
                          Options(RowKind::kSequence, false));
  const auto& content = std::get<PromptCompletionRow>(row.content);
  EXPECT_EQ(Dump(content.prompt),
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nAdd.\n\n### Response:");
  EXPECT_EQ(Dump(content.completion), "2");
  // What that prompt has no place for is not left out without a word.
  const auto options = Options(RowKind::kSequence, false);
  for (const auto& [column, value] : std::vector<std::pair<std::string, std::string>>{
           {"history", R"([["Hi", "Hello"]])"}, {"system", R"("Be brief.")"}}) {
    const auto failure = ReadFailure(
        R"({"instruction": "i", "output": "o", ")" + column + "\": " + value + "}", options);
    EXPECT_EQ(failure.field(), column);
    EXPECT_THAT(failure.message(), HasSubstr("the model has no chat template"));
  }
  ReadOne(R"({"instruction": "i", "output": "o", "history": [], "system": ""})", options);
}

TEST(RowReader, ShareGptPairsTakeKnownRoles) {
  const Row row = ReadOne(
      R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"},
          {"from": "observation", "value": "o"}],
          "chosen": {"from": "gpt", "value": "c"}, "rejected": {"from": "gpt", "value": "r"}})",
      kPair);
  const auto& content = std::get<PreferenceRow>(row.content);
  EXPECT_EQ(Dump(content.prompt),
            R"([{"role":"system","content":"s"},{"role":"user","content":"q"},)"
            R"({"role":"tool","content":"o"}])");
  EXPECT_EQ(Dump(content.chosen), R"([{"role":"assistant","content":"c"}])");
}

// LLaMA-Factory's function_call, one call and several, through a template that has tools.
TEST(RowReader, ShareGptFunctionCallsAreToolCallsOfTheAssistant) {
  const Row row = ReadOne(
      R"({"conversations": [{"from": "human", "value": "q"},
           {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
           {"from": "observation", "value": "7"},
           {"from": "function_call", "value":
          "[{\"name\": \"g\", \"arguments\": {}}, {\"name\": \"h\", \"arguments\": {\"y\": [2]}}]"},
           {"from": "observation", "value": "8"}, {"from": "gpt", "value": "a"}],
          "tools": "[{\"name\": \"f\", \"parameters\": {}}]"})",
      kSft);
  EXPECT_EQ(row.template_variables.dump(),
            R"({"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]})");
  const std::string path = SourceDir() + "/tools/fixtures/chat_templates/shipped_qwen2.5.jinja";
  std::ostringstream source;
  source << std::ifstream(path).rdbuf();
  const auto chat = ChatTemplate::FromString(source.str(), "qwen.jinja", {});
  const std::string text =
      chat.Render(std::get<ordered_json>(std::get<TextRow>(row.content).text), false,
                  row.template_variables);
  EXPECT_THAT(text, HasSubstr(R"({"type": "function", "function": {"name": "f", )"));
  EXPECT_THAT(text,
              HasSubstr("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
                        "{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call><|im_end|>\n"
                        "<|im_start|>user\n<tool_response>\n7\n</tool_response><|im_end|>\n"
                        "<|im_start|>assistant\n<tool_call>\n{\"name\": \"g\", "
                        "\"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"h\", "
                        "\"arguments\": {\"y\": [2]}}\n</tool_call><|im_end|>\n"));
}

TEST(RowReader, SpeakersAreKnownInAnyCaseOfLetters) {
  const Row row = ReadOne(
      R"({"conversations": [{"from": "System", "value": "s"}, {"from": "Human", "value": "q"},
          {"from": "GPT", "value": "a"}, {"from": "USER", "value": "q"},
          {"from": "model", "value": "a"}, {"from": "prompter", "value": "q"},
          {"from": "bard", "value": "a"}]})",
      kSft);
  std::string roles;
  for (const auto& message : std::get<ordered_json>(std::get<TextRow>(row.content).text)) {
    roles += message["role"].get<std::string>() + " ";
  }
  EXPECT_EQ(roles, "system user assistant user assistant user assistant ");
}

TEST(RowReader, PromptsAreExtractedAsTrlDoes) {
  Row row = ReadOne(R"({"chosen": "The sky is blue.", "rejected": "The sky is green."})", kPair);
  auto content = std::get<PreferenceRow>(row.content);
  EXPECT_EQ(Dump(content.prompt), "The sky is");  // the space goes to the answers
  EXPECT_EQ(Dump(content.chosen), " blue.");
  EXPECT_EQ(Dump(content.rejected), " green.");

  // Not within a character: é and è share their first byte.
  row = ReadOne(R"({"chosen": "xé", "rejected": "xè"})", kPair);
  content = std::get<PreferenceRow>(row.content);
  EXPECT_EQ(Dump(content.prompt), "x");
  EXPECT_EQ(Dump(content.chosen), "é");

  const char* conversations =
      R"("chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
         "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}])";
  for (const char* prompt :
       {"", R"("prompt": "q",)", R"("prompt": [{"role": "user", "content": "q"}],)"}) {
    row = ReadOne(std::string("{") + prompt + conversations + "}", kPair);
    content = std::get<PreferenceRow>(row.content);
    EXPECT_EQ(Dump(content.prompt), R"([{"role":"user","content":"q"}])");
    EXPECT_EQ(Dump(content.rejected), R"([{"role":"assistant","content":"b"}])");
  }
}

TEST(RowReader, TokenisedRowsPassThrough) {
  Row row = ReadOne(R"({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]})", kSft);
  EXPECT_EQ(std::get<Example>(row.content).labels, (std::vector<int32_t>{-100, 6, 7}));
  row = ReadOne(R"({"input_ids": [5, 6]})", kSft);
  EXPECT_EQ(std::get<Example>(row.content).labels, (std::vector<int32_t>{5, 6}));
  row = ReadOne(R"({"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]})", kPair);
  const auto& pair = std::get<PairExample>(row.content);
  EXPECT_EQ(pair.rejected.input_ids, (std::vector<int32_t>{1, 2, 4, 5}));
  EXPECT_EQ(pair.rejected.labels, (std::vector<int32_t>{-100, -100, 4, 5}));
  EXPECT_EQ(pair.chosen.labels, (std::vector<int32_t>{-100, -100, 3}));
}

TEST(RowReader, ToolsThatArePythonsNoneAreNone) {
  const Row row = ReadOne(
      R"({"messages": [{"role": "user", "content": "q"}], "tools": "null"})", kSft);
  EXPECT_TRUE(row.template_variables.empty());
}

// TRL refuses such files for models of text, too; to leave the pictures out would train on
// questions about nothing.
TEST(RowReader, RowsOfMoreThanTextAreRefused) {
  const std::string chat =
      R"({"messages": [{"role": "user", "content": "<image>Who?"},
                       {"role": "assistant", "content": "Kane"}], )";
  for (const std::string column : {"images", "image", "videos", "audios"}) {
    const auto failure = ReadFailure(chat + '"' + column + R"(": ["1.jpg"]})", kSft);
    EXPECT_EQ(failure.field(), column);
    EXPECT_EQ(failure.row(), 1);
    EXPECT_THAT(failure.message(), HasSubstr("the row is not text alone"));
    for (const char* none : {"null", "[]", "\"\""}) {
      ReadOne(chat + '"' + column + "\": " + none + "}", kSft);
    }
  }
}

TEST(RowReader, ToolsAndTemplateArgumentsReachTheTemplate) {
  const Row row = ReadOne(
      R"({"messages": [{"role": "user", "content": "q"}], "tools": "[{\"name\": \"f\"}]",
          "chat_template_kwargs": {"enable_thinking": false}})",
      kSft);
  EXPECT_EQ(row.template_variables.dump(), R"({"enable_thinking":false,"tools":[{"name":"f"}]})");
}

TEST(RowReader, DetectsFormatsByColumns) {
  const auto format = [](const std::string& row, const RowReaderOptions& options) {
    const TempFile file("[" + row + "]");
    const JsonRows rows(file.path(), 0);
    return RowReader(rows, options).format();
  };
  const std::string chat = R"([{"role": "user", "content": "q"}])";
  EXPECT_EQ(format(R"({"text": "t"})", kSft), liger::v1::DATASET_FORMAT_TEXT);
  EXPECT_EQ(format(R"({"prompt": "p", "completion": "c", "label": true})", kSft),
            liger::v1::DATASET_FORMAT_PROMPT_COMPLETION);
  EXPECT_EQ(format(R"({"label": true, "messages": )" + chat + "}", kSft),
            liger::v1::DATASET_FORMAT_MESSAGES);
  EXPECT_EQ(format(R"({"prompt": "p", "chosen": "c", "rejected": "r"})", kPair),
            liger::v1::DATASET_FORMAT_PREFERENCE);
  EXPECT_EQ(format(R"({"instruction": "i", "chosen": "c", "rejected": "r"})", kPair),
            liger::v1::DATASET_FORMAT_ALPACA);
  EXPECT_EQ(format(R"({"prompt": )" + chat + R"(, "completion": )" + chat + R"(, "messages": )" +
                       chat + "}",
                   kSft),
            liger::v1::DATASET_FORMAT_PROMPT_COMPLETION)
      << "as TRL";
  // Columns of both kinds: the method decides.
  const std::string both = R"({"text": "t", "chosen": "c", "rejected": "r"})";
  EXPECT_EQ(format(both, kSft), liger::v1::DATASET_FORMAT_TEXT);
  EXPECT_EQ(format(both, kPair), liger::v1::DATASET_FORMAT_PREFERENCE);
}

struct BadRow {
  const char* row;
  RowKind kind;
  const char* column;
  const char* message;
};

class BadRows : public testing::TestWithParam<BadRow> {};

TEST_P(BadRows, AreToldByRowAndColumn) {
  const auto failure = ReadFailure(GetParam().row, Options(GetParam().kind));
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(failure.row(), 1);
  EXPECT_EQ(failure.field(), GetParam().column);
  EXPECT_THAT(failure.message(),
              AllOf(HasSubstr("rows.json: row 1 (line 1)"), HasSubstr(GetParam().message)));
  EXPECT_NE(failure.action(), "");
}

constexpr RowKind kS = RowKind::kSequence;
constexpr RowKind kP = RowKind::kPair;
INSTANTIATE_TEST_SUITE_P(
    All, BadRows,
    testing::Values(
        BadRow{R"({"foo": 1, "bar": 2})", kS, "", "its columns (foo, bar)"},
        BadRow{R"({"instruction": "i"})", kS, "output", "the column is missing"},
        BadRow{R"({"instruction": "i", "output": null})", kS, "output", "is null"},
        BadRow{R"({"instruction": "i", "output": 3})", kS, "output",
               "must be a string, not an integer"},
        BadRow{R"({"instruction": "i", "output": "o", "history": [["a"]]})", kS, "history",
               "[question, answer] pairs"},
        BadRow{R"({"text": ["a"]})", kS, "text", "must be a string, not a list"},
        BadRow{R"({"messages": []})", kS, "messages", "the conversation is empty"},
        BadRow{R"({"messages": "hi"})", kS, "messages", "must be a list of messages"},
        BadRow{R"({"messages": ["hi"]})", kS, "messages[0]", "must be a message"},
        BadRow{R"({"messages": [{"role": "user", "content": "a"}, {"role": "robot",
                "content": "b"}]})",
               kS, "messages[1].role", "unknown role \"robot\""},
        BadRow{R"({"conversations": [{"from": "function_call", "value": "f 1"}]})", kS,
               "conversations[0]", "is no call of tools: not valid JSON"},
        BadRow{R"({"conversations": [{"from": "function_call", "value": "[{\"name\": \"f\"}]"}]})",
               kS, "conversations[0]", "is no call of tools: a call is no"},
        BadRow{R"({"conversations": [{"from": "function_call", "value": "[]"}]})", kS,
               "conversations[0]", "calls nothing"},
        BadRow{R"({"conversations": [{"from": "function_call", "value": {"name": "f"}}]})", kS,
               "conversations[0]", "has no text"},
        BadRow{R"({"messages": [{"content": "a"}]})", kS, "messages[0]", "has no role"},
        BadRow{R"({"messages": [{"role": "user"}]})", kS, "messages[0]", "has no content"},
        BadRow{R"({"messages": [{"role": "user", "content": 7}]})", kS, "messages[0].content",
               "must be a string, not an integer"},
        BadRow{R"({"messages": [{"role": "user", "content": [{"type": 5}]}]})", kS,
               "messages[0].content", "not text"},
        BadRow{R"({"messages": [{"role": "user", "content": [{"type": "text", "text": null}]}]})",
               kS, "messages[0].content", "text must be a string, not null"},
        BadRow{R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})", kS,
               "messages[0].content", "not text"},
        BadRow{R"({"conversations": [{"from": "martian", "value": "a"}]})", kS,
               "conversations[0].from", "unknown role \"martian\""},
        BadRow{R"({"prompt": "a", "completion": [{"role": "user", "content": "b"}]})", kS,
               "completion", "both be strings or both be messages"},
        BadRow{R"({"prompt": [{"role": "user", "content": "a"}],
                "completion": [{"role": "assistant", "content": "b"},
                               {"role": "user", "content": "c"}]})",
               kS, "completion", "ends with a message of the role user"},
        BadRow{R"({"prompt": [{"role": "user", "content": "a"}],
                "chosen": [{"role": "user", "content": "b"}],
                "rejected": [{"role": "assistant", "content": "c"}]})",
               kP, "chosen", "ends with a message of the role user"},
        BadRow{R"({"conversations": [{"from": "human", "value": "a"}],
                "chosen": {"from": "gpt", "value": "b"},
                "rejected": {"from": "human", "value": "c"}})",
               kP, "rejected", "ends with a message of the role user"},
        BadRow{R"({"prompt": "a", "chosen": "b", "rejected": "c"})", kS, "chosen",
               "sft cannot train on preference rows"},
        BadRow{R"({"conversations": [{"from": "human", "value": "a"}],
                "chosen": {"from": "gpt", "value": "b"},
                "rejected": {"from": "gpt", "value": "c"}})",
               kS, "chosen", "sft cannot train on preference rows"},
        BadRow{R"({"instruction": "i", "output": "o"})", kP, "chosen",
               "it has: instruction, output"},
        BadRow{R"({"prompt": "a", "chosen": "b", "rejected": [{"role": "user", "content": "c"}]})",
               kP, "rejected", "both be strings or both be messages"},
        BadRow{R"({"chosen": [{"role": "user", "content": "b"}],
                "rejected": [{"role": "user", "content": "c"}]})",
               kP, "chosen", "shares no first message"},
        BadRow{R"({"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}],
                "rejected": [{"role": "assistant", "content": "c"}]})",
               kP, "prompt", "is text, and chosen and rejected are messages without it"},
        BadRow{R"({"input_ids": [1, 100]})", kS, "input_ids[1]", "outside of [0, 100)"},
        BadRow{R"({"input_ids": [-1]})", kS, "input_ids[0]", "token id -1"},
        BadRow{R"({"input_ids": [1.5]})", kS, "input_ids[0]", "not a number"},
        BadRow{R"({"input_ids": [18446744073709551615]})", kS, "input_ids[0]", "outside of"},
        BadRow{R"({"input_ids": "1 2"})", kS, "input_ids", "must be a list of token ids"},
        BadRow{R"({"input_ids": [1, 2], "labels": [1]})", kS, "labels",
               "is of length 1, and input_ids of length 2"},
        BadRow{R"({"input_ids": [1], "labels": [-5]})", kS, "labels[0]", "neither a token id"},
        BadRow{R"({"prompt_ids": [1], "chosen_ids": [2]})", kP, "rejected_ids", "is missing"},
        BadRow{R"({"text": "a", "tools": "{"})", kS, "tools", "not valid JSON"}));

TEST(RowReader, MessagesAsJsonTextAreBlamedOnTheColumn) {
  const auto text = ReadFailure(R"({"messages": "[{}]"})", kSft);
  EXPECT_THAT(text.message(), HasSubstr("must be a list of messages, not a string of JSON"));
  EXPECT_THAT(text.action(), HasSubstr("json.loads"));
  const TempFile file("messages\n\"[{}]\"\n", "rows.csv");
  const auto rows = OpenRows(file.path(), 0);
  EXPECT_THAT(FailureOf([&] { RowReader(*rows, kSft).Read(0); }).action(),
              HasSubstr("A .csv file has texts alone: write the rows as .jsonl"));
}

TEST(RowReader, CompletionOnlyLossNeedsACompletion) {
  RowReaderOptions options = kSft;
  options.completion_only_loss = true;
  for (const char* row : {R"({"text": "t"})", R"({"messages": [{"role": "user", "content": "q"}]})",
                          R"({"conversations": [{"from": "human", "value": "q"}]})"}) {
    const auto failure = ReadFailure(row, options);
    EXPECT_EQ(failure.field(), "sft.completion_only_loss") << row;
  }
  ReadOne(R"({"prompt": "p", "completion": "c"})", options);
  EXPECT_THAT(ReadFailure(R"({"input_ids": [1, 2]})", options).message(), HasSubstr("labels"));
}

TEST(RowReader, LaterRowsMustFitTheFirst) {
  const TempFile file(R"([{"text": "a"}, {"prompt": "p", "completion": "c"}])");
  const JsonRows rows(file.path(), 0);
  const RowReader reader(rows, kSft);
  const auto failure = FailureOf([&] { reader.Read(1); });
  EXPECT_EQ(failure.row(), 2);
  EXPECT_THAT(failure.message(), HasSubstr("column text: the column is missing; the row has: "
                                           "prompt, completion"));
}

TEST(RowReader, ColumnsAndRolesTakeTheNamesOfTheFile) {
  RowReaderOptions options = kSft;
  options.names.columns = {{"prompt", "question"}, {"completion", "prompt"}};
  const Row row = ReadOne(R"({"question": "q", "prompt": "a", "completion": "unused"})", options);
  const auto& content = std::get<PromptCompletionRow>(row.content);
  EXPECT_EQ(Dump(content.prompt), "q");
  EXPECT_EQ(Dump(content.completion), "a");

  const auto missing = ReadFailure(R"({"query": "q", "prompt": "a"})", options);
  EXPECT_THAT(missing.message(),
              AllOf(HasSubstr("row 1"), HasSubstr("column question"), HasSubstr("query, prompt")));
  EXPECT_EQ(missing.field(), "dataset.columns.prompt");
  EXPECT_THAT(ReadFailure(R"({"question": 5, "prompt": "a"})", options).message(),
              HasSubstr("column question (read as prompt): must be a string"));

  options.names = {{}, {{"agent", "assistant"}, {"customer", "user"}}};
  const Row talk = ReadOne(
      R"({"conversations": [{"from": "customer", "value": "q"}, {"from": "agent", "value": "a"}]})",
      options);
  EXPECT_EQ(Dump(std::get<TextRow>(talk.content).text),
            R"([{"role":"user","content":"q"},{"role":"assistant","content":"a"}])");
}

}  // namespace
}  // namespace liger::trainer
