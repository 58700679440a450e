// What a chat template leaves out of a conversation is warned of.
#include "worker/trainer/data/left_out.h"

#include "tests/unit/data/dataset_fixture.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

ChatTemplate Phi() {
  std::ifstream file(SourceDir() + "/tests/golden/text/chat/templates/shipped_phi3.5.jinja");
  const std::string source{std::istreambuf_iterator<char>(file), {}};
  return ChatTemplate::FromString(source, "phi", ordered_json::object());
}

constexpr char kPlain[] = R"({"messages": [{"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"}]})";

class LeftOutTest : public DatasetTest {
 protected:
  std::vector<std::string> Warnings(const std::string& rows, const ChatTemplate& chat_template) {
    const TempFile file("[" + rows + "]");
    LoadOptions options;
    options.train_files = {{file.path()}};
    return LoadDataset({}, options, *tokenizer_, &chat_template).warnings;
  }
};

TEST_F(LeftOutTest, TurnsOfToolsAndDevelopers) {
  const std::string rows = std::string(kPlain) + R"(, {"messages": [
      {"role": "developer", "content": "d"}, {"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}]}, {"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}, {"role": "tool", "content": "t"},
      {"role": "assistant", "content": "b"}]})";
  const auto warnings = Warnings(rows, Phi());
  EXPECT_THAT(warnings, Contains(HasSubstr("in 1 of 3 training rows messages of the role tool are "
                                           "left out, since the chat template does not write")));
  EXPECT_THAT(warnings,
              Contains(HasSubstr("in 1 of 3 training rows messages of the role developer are left "
                                 "out, since the chat template does not write them; make them the "
                                 "system's (dataset.roles: {developer: system})")));
  EXPECT_THAT(Warnings(rows, *chat_template_), IsEmpty()) << "it writes every role";
}

TEST_F(LeftOutTest, Reasoning) {
  const auto row = [](const std::string& field) {
    return R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", )" + field +
           R"(, "content": "a"}]})";
  };
  const std::string rows = std::string(kPlain) + ", " + row(R"("reasoning_content": "so")") + ", " +
                           row(R"("thinking": "so")") + ", " + row(R"("reasoning_content": "")") +
                           ", " + row(R"("reasoning_content": null)");
  EXPECT_THAT(Warnings(rows, *chat_template_),
              testing::ElementsAre(HasSubstr("in 2 of 5 training rows what the assistant reasons "
                                             "(reasoning_content) is left out")));
  const auto thinking = ChatTemplate::FromString(
      "{% for m in messages %}{{ m.reasoning_content }}{{ m.content }}<|im_end|>{% endfor %}", "t",
      ordered_json::object());
  EXPECT_THAT(Warnings(rows, thinking), IsEmpty());
}

TEST_F(LeftOutTest, WhatATemplateCannotDoWithoutIsNotLeftOut) {
  const auto chat_template = ChatTemplate::FromString(
      "{% if messages[0].role != 'developer' %}{{ raise_exception('none') }}{% endif %}"
      "{{ messages[1].content }}",
      "t", ordered_json::object());
  const auto messages = ordered_json::parse(
      R"([{"role": "developer", "content": "d"}, {"role": "user", "content": "q"}])");
  EXPECT_FALSE(FindLeftOut(&chat_template, {TextRow{messages}}).developer_turns);
}

// The rejected answer is not looked at.
TEST_F(LeftOutTest, OfAPromptAndTheChosenAnswer) {
  const auto chat_template = Phi();
  const auto message = [](const char* role) {
    return ordered_json::array({{{"role", role}, {"content", "c"}}});
  };
  const auto lost = [&](const char* prompt, const char* chosen, const char* rejected) {
    return FindLeftOut(&chat_template,
                       {PreferenceRow{message(prompt), message(chosen), message(rejected)}})
        .tool_turns;
  };
  EXPECT_TRUE(lost("tool", "assistant", "assistant"));
  EXPECT_TRUE(lost("user", "tool", "assistant"));
  EXPECT_FALSE(lost("user", "assistant", "tool"));
}

}  // namespace
}  // namespace liger::trainer
