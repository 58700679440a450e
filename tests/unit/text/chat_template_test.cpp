// Which of a model folder's chat templates serves which conversation.

#include "worker/trainer/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "worker/trainer/exact_json.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

class ChatTemplateFolder : public testing::Test {
 protected:
  ~ChatTemplateFolder() override { fs::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name) << text;
  }
  std::string Render(const Json& extra) const {
    const Json messages = {{{"role", "user"}, {"content", "hi"}}};
    return ChatTemplate::FromFolder(dir_)->Render(messages, false, extra);
  }

  const fs::path dir_ =
      fs::path(testing::TempDir()) / ("chat_template_" + std::to_string(::getpid()));
  const Json with_tools_ = {{"tools", {{{"name", "f"}}}}};
};

// The layout that transformers' save_pretrained writes.
TEST_F(ChatTemplateFolder, ToolUseServesConversationsWithTools) {
  Write("chat_template.jinja", "default {{ messages[0].content }}");
  Write("additional_chat_templates/tool_use.jinja", "tools {{ tools[0].name }}");
  Write("additional_chat_templates/notes.txt", "no template");
  EXPECT_EQ(Render(nullptr), "default hi");
  EXPECT_EQ(Render(with_tools_), "tools f");
}

TEST_F(ChatTemplateFolder, FilesWinOverTheConfig) {
  Write("tokenizer_config.json", R"({"chat_template": "config"})");
  EXPECT_EQ(Render(nullptr), "config");
  Write("chat_template.jinja", "file");
  EXPECT_EQ(Render(with_tools_), "file");
}

TEST_F(ChatTemplateFolder, AFolderWithoutOneHasNone) {
  Write("tokenizer_config.json", "{}");
  EXPECT_FALSE(ChatTemplate::FromFolder(dir_).has_value());
}

// Rendered rows may be kept for as long as they would be the same.
TEST(ClockUseTest, KnowsWhatAnotherDayWouldChange) {
  EXPECT_EQ(FindClockUse("{{ messages[0].content }}"), ClockUse::kNone);
  EXPECT_EQ(FindClockUse("{% if strftime_now is defined %}x{% endif %}"), ClockUse::kNone);
  EXPECT_EQ(FindClockUse("{% if strftime_now is defined %}{{ strftime_now(\"%d %b %Y\") }}"),
            ClockUse::kDate);
  EXPECT_EQ(FindClockUse("{{ strftime_now ( '%-d %B, 100%% %j' ) }}"), ClockUse::kDate);
  for (const char* format : {"%H", "%d %T", "%c", "%s", "%", "%-", "%Ey"}) {
    EXPECT_EQ(
        FindClockUse("{{ strftime_now('%Y') }}{{ strftime_now('" + std::string(format) + "') }}"),
        ClockUse::kTime)
        << format;
  }
  for (const char* call : {"(format)", " | string", "('%d' ~ x)", "('%d", "(", "('\\x25H')"}) {
    EXPECT_EQ(FindClockUse("{% set f = strftime_now" + std::string(call)), ClockUse::kTime) << call;
  }
}

// json.loads and json.dumps of Python, which lie under a template there, keep every digit.
TEST(ChatTemplate, IntegersOfAnyLengthStayExact) {
  const auto chat =
      ChatTemplate::FromString("{{ messages[0].id }} {{ messages[0].list | tojson }} {{ tools }}",
                               "template", Json::object());
  const std::string list =
      R"([9223372036854775807, 9223372036854775808, 18446744073709551615, 18446744073709551616, )"
      R"(-9223372036854775808, -9223372036854775809, 123456789012345678901234567890, 1e+20])";
  const Json row = ParseExactJson(
      R"([{"role": "user", "id": 18446744073709551616, "a": 1, "a": {}, "list": )" + list + "}]");
  EXPECT_EQ(chat.Render(row, false, {{"tools", ParseExactJson("[12345678901234567890123]")}}),
            "18446744073709551616 " + list + " [12345678901234567890123]");
  for (const char* broken : {"[1", "{\"a\": 1e999}", "[1] 2", "{\"a\"}"}) {
    EXPECT_THROW(ParseExactJson(broken), JsonTextError) << broken;
  }
}

TEST_F(ChatTemplateFolder, OneTemplateThatTellsTheTimeIsEnough) {
  Write("chat_template.jinja", "{{ strftime_now('%d') }}");
  EXPECT_EQ(ChatTemplate::FromFolder(dir_)->clock_use(), ClockUse::kDate);
  Write("additional_chat_templates/tool_use.jinja", "{{ strftime_now('%H') }}");
  EXPECT_EQ(ChatTemplate::FromFolder(dir_)->clock_use(), ClockUse::kTime);
}

}  // namespace
}  // namespace liger::trainer
