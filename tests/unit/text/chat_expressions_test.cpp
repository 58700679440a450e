// Small templates, one a construct, and random ones against Jinja
// (tools/fixtures/jinja_fixtures.py, jinja_random_fixtures.py).
#include <gtest/gtest.h>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/chat_template.h"

namespace liger::trainer {
namespace {

using Json = nlohmann::ordered_json;

// The text, or the error.
Json Render(const Json& head, const Json& row) {
  const Json extra = row["tools"] ? Json{{"tools", head["tools"]}} : Json::object();
  try {
    const ChatTemplate chat = ChatTemplate::FromString(
        row["template"], "t.jinja", {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    return {{"rendered", chat.Render(head["messages"], row["prompt"], extra)}};
  } catch (const TrainerError& error) {
    return {{"error", error.what()}};
  }
}

class ChatExpressions : public testing::TestWithParam<const char*> {};

TEST_P(ChatExpressions, EqualJinja) {
  std::vector<Json> rows;  // keys in the file's order
  const std::string path = GoldenDir() + "/chat/" + GetParam() + ".jsonl";
  for (const std::string& line : SplitLines(ReadAll(path))) {
    if (!line.empty()) rows.push_back(Json::parse(line));
  }
  ASSERT_GT(rows.size(), 1000u);
  const Json& head = rows[0];
  for (size_t i = 1; i < rows.size(); ++i) {
    const Json& row = rows[i];
    SCOPED_TRACE(row["template"]);
    const Json got = Render(head, row);
    const std::string error = got.value("error", "");
    if (row.contains("refused")) {
      EXPECT_NE(error.find(row["refused"].get<std::string>()), std::string::npos) << got;
      EXPECT_NE(error.find("line "), std::string::npos) << got;
    } else if (row.contains("rendered")) {
      EXPECT_EQ(got.value("rendered", "error: " + error), row["rendered"]);
    } else {
      EXPECT_FALSE(got.contains("rendered")) << got << " but Jinja fails: " << row;
      EXPECT_NE(error.find("line "), std::string::npos) << error;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatExpressions, testing::Values("expressions", "random"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace liger::trainer
