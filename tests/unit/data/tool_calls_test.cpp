// Calls of tools that a chat template leaves out are refused before anything trains on the row.
#include "worker/trainer/data/tool_calls.h"

#include <filesystem>
#include <optional>
#include <set>
#include <sstream>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/left_out.h"
#include "worker/trainer/data/tokenize_row.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;

const std::string kGolden = SourceDir() + "/tests/golden/";

std::string Read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// ChatML that prints role and content alone.
class ToolCallsTest : public testing::Test {
 protected:
  liger::v1::Failure LoadFailure(liger::v1::JobSpec::MethodCase method, const std::string& rows) {
    const TempFile file(rows);
    LoadOptions options;
    options.method = method;
    options.train_files = {{file.path()}};
    return FailureOf([&] { LoadDataset({}, options, *tokenizer_, &*chat_template_); });
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(kGolden + "data/chat");
  const std::optional<ChatTemplate> chat_template_ =
      ChatTemplate::FromFolder(kGolden + "data/chat");
};

constexpr char kCalls[] = R"([{"role": "user", "content": "q"}, {"role": "assistant",
    "content": "", "tool_calls": [{"type": "function", "function":
    {"name": "weather", "arguments": {"city": "K"}}}]}])";

TEST_F(ToolCallsTest, SftNamesRowMessageFieldAndFunction) {
  const auto failure = LoadFailure(
      liger::v1::JobSpec::kSft,
      R"([{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
          {"messages": )" +
          std::string(kCalls) + "}]");
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(failure.row(), 2);
  EXPECT_EQ(failure.field(), "tool_calls");
  EXPECT_THAT(failure.message(), AllOf(HasSubstr("row 2"), HasSubstr("message 2's tool_calls"),
                                       HasSubstr("\"weather\"")));
  EXPECT_THAT(failure.action(), HasSubstr("knows tools"));
}

// OpenAI's, with which templates fail that take every content for text.
TEST_F(ToolCallsTest, CallsBesideANullContentAreRefusedAsCalls) {
  const auto failure = LoadFailure(liger::v1::JobSpec::kSft,
                                   R"([{"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
       "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "3"},
      {"role": "assistant", "content": "a"}]}])");
  EXPECT_EQ(failure.field(), "tool_calls");
  EXPECT_THAT(failure.message(),
              AllOf(HasSubstr("row 1"), HasSubstr("message 2's tool_calls"), HasSubstr("\"f\"")));
}

TEST_F(ToolCallsTest, FormerCallsBesideANullContentToo) {
  const RowTokenizer tokenizer(*tokenizer_, &*chat_template_, {});
  const auto messages = ordered_json::parse(R"([{"role": "user", "content": "q"},
      {"role": "assistant", "content": null, "function_call": {"name": "g", "arguments": "{}"}}])");
  const auto failure = FailureOf([&] { tokenizer.Tokenize({TextRow{messages}}); });
  EXPECT_EQ(failure.field(), "function_call");
  EXPECT_THAT(failure.message(), HasSubstr("\"g\""));
}

TEST_F(ToolCallsTest, ATemplateThatWritesCallsAndNeedsAContentHasAnEmptyOne) {
  const auto chat = ChatTemplate::FromString(
      "{% for m in messages %}{{ '[' + m['content'] + ']' }}{% for c in m.tool_calls %}"
      "{{ c.function.name }}{% endfor %}{% endfor %}",
      "t", ordered_json::object());
  auto messages = ordered_json::parse(kCalls);
  const RowTokenizer tokenizer(*tokenizer_, &chat, {});
  const auto ids = [&] {
    return tokenizer.Tokenize({TextRow{messages}}).sequences.at(0).input_ids;
  };
  const TokenIds empty = ids();
  EXPECT_EQ(tokenizer_->Decode(empty, false), "[q][]weather");
  messages[1]["content"] = nullptr;
  EXPECT_EQ(ids(), empty);
  // Who calls nothing has to say something.
  messages[1]["tool_calls"] = nullptr;
  EXPECT_THAT(FailureOf(ids).message(), HasSubstr("the chat template fails"));
}

TEST_F(ToolCallsTest, ToolsThatTheTemplateDoesNotWriteAreWarnedOf) {
  const std::string row = R"({"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}], "tools": )";
  const TempFile file("[" + row + R"([{"type": "function", "function": {"name": "f"}}]}, )" + row +
                      "[]}, " + row + "null}]");
  LoadOptions options;
  options.train_files = {{file.path()}};
  const Dataset dataset = LoadDataset({}, options, *tokenizer_, &*chat_template_);
  EXPECT_THAT(dataset.warnings,
              testing::Contains(HasSubstr("in 1 of 3 training rows the column tools is left out")));
}

// No chat template writes them there.
TEST_F(ToolCallsTest, ToolsBesideTextsAreWarnedOf) {
  const std::string tools =
      R"(, "tools": [{"type": "function", "function": {"name": "look_up"}}]})";
  const TempFile file(R"([{"prompt": "q", "completion": "a")" + tools +
                      R"(, {"prompt": "You have look_up. q", "completion": "a")" + tools +
                      R"(, {"prompt": "q", "completion": "a", "tools": []}])");
  const TempFile alpaca(R"([{"instruction": "q", "output": "a")" + tools + "]");
  LoadOptions options;
  options.train_files = {{file.path()}};
  EXPECT_THAT(LoadDataset({}, options, *tokenizer_, &*chat_template_).warnings,
              testing::Contains(HasSubstr("in 1 of 3 training rows the column tools is left out")));
  options.train_files = {{alpaca.path()}};
  EXPECT_EQ(LoadDataset({}, options, *tokenizer_, nullptr).train_stats.lost_tools, 1);
}

TEST_F(ToolCallsTest, ToolsOfLateRowsToo) {
  const std::string row = R"({"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}], "tools": )";
  std::string rows = "[";
  for (int i = 0; i < 100; ++i) rows += row + "[]}, ";
  const TempFile file(rows + row + R"([{"type": "function", "function": {"name": "f"}}]}])");
  LoadOptions options;
  options.train_files = {{file.path()}};
  const Dataset dataset = LoadDataset({}, options, *tokenizer_, &*chat_template_);
  EXPECT_THAT(dataset.warnings,
              testing::Contains(HasSubstr("in 1 of 101 training rows the column tools is left")));
}

TEST_F(ToolCallsTest, ToolsAreLostWhereTheTextIsTheSameWithoutThem) {
  const ordered_json messages =
      ordered_json::parse(R"([{"role": "user", "content": "q"}, {"role": "assistant"}])");
  const auto none = ordered_json::object();
  const auto loses = [&](const std::string& source, const std::string& tools) {
    const ordered_json variables = {{"tools", ordered_json::parse(tools)}};
    const ChatTemplate chat_template = ChatTemplate::FromString(source, "t", none);
    return FindLeftOut(&chat_template, {TextRow{messages}, variables}).tools;
  };
  EXPECT_TRUE(loses("{{ messages[0].content }}", R"([{"type": "function"}])"));
  EXPECT_FALSE(loses("{% if tools %}{{ tools | tojson }}{% endif %}", R"([{"name": "f"}])"));
  // Written for bare functions, it has nothing of wrapped ones.
  const std::string bare = "{% if tools %}{% for t in tools %}{{ t.name }}{% endfor %}{% endif %}";
  EXPECT_FALSE(loses(bare, R"([{"name": "f"}])"));
  EXPECT_TRUE(loses(bare, R"([{"type": "function", "function": {"name": "f"}}])"));
  // Some write them into a system's message alone.
  EXPECT_TRUE(loses("{% if messages[0].role == 'system' %}{{ tools | tojson }}{% endif %}",
                    R"([{"name": "f"}])"));
  EXPECT_FALSE(loses("{% if not tools %}{{ raise_exception('none') }}{% endif %}", R"(["f"])"));
  // Messages that hold them already, and lists that are none.
  EXPECT_FALSE(loses("{{ messages[0].content }}", R"([{"name": "q"}])"));
  EXPECT_FALSE(loses("{{ messages[0].content }}", "[]"));
  EXPECT_FALSE(loses("{{ messages[0].content }}", "null"));
  const ChatTemplate plain = ChatTemplate::FromString("{{ messages[0].content }}", "t", none);
  EXPECT_FALSE(FindLeftOut(&plain, {TextRow{messages}}).tools) << "there are none";
}

TEST_F(ToolCallsTest, ShareGptsFunctionCallTooAndOpenAisFormerField) {
  EXPECT_THAT(
      LoadFailure(liger::v1::JobSpec::kSft,
                  R"([{"conversations": [{"from": "human", "value": "q"},
                {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"},
                {"from": "observation", "value": "7"}, {"from": "gpt", "value": "a"}]}])")
          .message(),
      HasSubstr("message 2's tool_calls: the chat template does not write the call of \"f\""));
  const auto former = LoadFailure(liger::v1::JobSpec::kSft,
                                  R"([{"messages": [{"role": "user", "content": "q"},
                {"role": "assistant", "content": "", "function_call":
                 {"name": "g", "arguments": "{}"}}]}])");
  EXPECT_EQ(former.field(), "function_call");
  EXPECT_THAT(former.action(), HasSubstr("Write it as tool_calls"));
}

TEST_F(ToolCallsTest, DpoOrpoAndKtoToo) {
  const std::string pair = R"([{"prompt": [{"role": "user", "content": "q"}], "chosen":
      [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "",
       "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}]}])";
  for (const auto method : {liger::v1::JobSpec::kDpo, liger::v1::JobSpec::kOrpo}) {
    EXPECT_THAT(LoadFailure(method, pair).message(), HasSubstr("message 2's tool_calls"));
  }
  EXPECT_THAT(LoadFailure(liger::v1::JobSpec::kKto,
                          R"([{"label": true, "messages": )" + std::string(kCalls) + "}]")
                  .message(),
              HasSubstr("message 2's tool_calls"));
}

TEST_F(ToolCallsTest, NoCallsInTheFieldPass) {
  for (const char* calls : {"null", "[]"}) {
    const auto messages = ordered_json::parse(
        R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a",
             "tool_calls": )" +
        std::string(calls) + "}]");
    EXPECT_NO_THROW(RequireRenderedCalls(*chat_template_, messages, false, nullptr)) << calls;
  }
}

TEST_F(ToolCallsTest, OneCallOfSeveralThatIsLeftOutIsNamed) {
  const auto first_alone = ChatTemplate::FromString(
      "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}"
      "{{ m.tool_calls[0].function.name }}{% endif %}{% endfor %}",
      "t", ordered_json::object());
  auto messages = ordered_json::parse(kCalls);
  EXPECT_NO_THROW(RequireRenderedCalls(first_alone, messages, false, nullptr));
  ordered_json& calls = messages[1]["tool_calls"];
  calls.push_back({{"type", "function"}, {"function", {{"name", "time"}, {"arguments", {}}}}});
  EXPECT_THAT(
      FailureOf([&] { RequireRenderedCalls(first_alone, messages, false, nullptr); }).message(),
      HasSubstr("\"time\""));
}

int Count(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++count;
  return count;
}

// Over the templates and conversations that the renderings are compared with: a call is refused
// where its name is not in the rendering. Some templates write calls of some shapes alone.
TEST_F(ToolCallsTest, RefusedIsWhatARenderingLacks) {
  std::ifstream file(kGolden + "text/chat/renderings.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const auto head = ordered_json::parse(line);
  std::set<std::string> writing, leaving_out;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden + "text/chat/templates")) {
    const std::string name = entry.path().filename().string(), source = Read(entry.path());
    const auto chat =
        ChatTemplate::FromString(source, name, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    for (const auto& messages : head.at("conversations")) {
      int calls = 0;
      for (const auto& message : messages) {
        if (message.is_object() && message.contains("tool_calls")) {
          calls += static_cast<int>(message["tool_calls"].size());
        }
      }
      if (calls == 0) continue;
      std::string text;
      try {
        text = chat.Render(messages, false);  // no tools, whose names would be there too
      } catch (const TrainerError&) {
        continue;
      }
      SCOPED_TRACE(name + " " + messages.dump() + "\n" + text);
      // "bare" names a tool's answer as well, which no template writes.
      if (Count(text, "get_weather") + Count(text, "bare") >= calls) {
        EXPECT_NO_THROW(RequireRenderedCalls(chat, messages, false, nullptr));
        writing.insert(name);
      } else {
        EXPECT_THROW(RequireRenderedCalls(chat, messages, false, nullptr), TrainerError);
        leaving_out.insert(name);
      }
    }
  }
  EXPECT_THAT(writing, testing::IsSupersetOf({"shipped_qwen2.5.jinja", "shipped_qwen3.jinja",
                                              "shipped_mistral_v3.jinja", "llama31_style.jinja"}));
  EXPECT_THAT(leaving_out, testing::IsSupersetOf({"smollm2.jinja", "shipped_phi3.5.jinja"}));
}

}  // namespace
}  // namespace liger::trainer
