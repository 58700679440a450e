// Rendered conversations equal those of transformers' apply_chat_template, see
// tools/fixtures/chat_fixtures.py.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer {
namespace {

using Json = nlohmann::ordered_json;

class ChatGolden : public testing::TestWithParam<const char*> {
 protected:
  static ChatTemplate Load(const std::string& name) {
    return ChatTemplate::FromString(ReadAll(GoldenDir() + "/chat/templates/" + name), name,
                                    {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  }
};

void ExpectSpans(const RenderedChat& chat, const Json& row) {
  if (!row.contains("spans")) return;
  // transformers counts characters.
  std::vector<std::pair<size_t, size_t>> spans;
  for (const auto& [begin, end] : chat.generation_spans) {
    spans.emplace_back(jinja::Length(chat.text.substr(0, begin)),
                       jinja::Length(chat.text.substr(0, end)));
  }
  EXPECT_EQ(Json(spans), row["spans"]);
}

void ExpectFailure(const ChatTemplate& chat, const Json& row) {
  try {
    const std::string text =
        chat.Render(row["messages"], row["add_generation_prompt"], row["extra"]);
    ADD_FAILURE() << "rendered " << text << "\nbut transformers fails";
  } catch (const TrainerError& error) {
    EXPECT_NE(std::string(error.what()).find(", line "), std::string::npos) << error.what();
    const bool raised = std::string(error.what()).find("refuses") != std::string::npos;
    EXPECT_EQ(raised, row["error"] == "raised") << error.what();
    if (row["error"] == "raised") {
      EXPECT_NE(std::string(error.what()).find(row["message"].get<std::string>()),
                std::string::npos)
          << error.what();
    }
  }
}

TEST_P(ChatGolden, EqualsTransformers) {
  const ChatTemplate chat = Load(GetParam());
  int rows = 0;
  Json head;
  for (const std::string& line : SplitLines(ReadAll(GoldenDir() + "/chat/renderings.jsonl"))) {
    if (line.empty()) continue;
    Json row = Json::parse(line);
    if (head.is_null()) head = row;
    if (!row.contains("template") || row["template"] != GetParam()) continue;
    row["messages"] = head["conversations"][row["conversation"].get<size_t>()];
    row.update(head["variants"][row["variant"].get<size_t>()]);
    SCOPED_TRACE(row["messages"].dump() + " " + row["extra"].dump());
    ++rows;
    if (row.contains("error")) {
      ExpectFailure(chat, row);
      continue;
    }
    try {
      const RenderedChat got =
          chat.RenderWithSpans(row["messages"], row["add_generation_prompt"], row["extra"]);
      EXPECT_EQ(got.text, row["rendered"].get<std::string>());
      ExpectSpans(got, row);
    } catch (const TrainerError& error) {
      ADD_FAILURE() << error.what();
    }
  }
  EXPECT_GT(rows, 50);
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatGolden,
                         testing::Values("smollm2.jinja", "llama3_style.jinja", "qwen_style.jinja",
                                         "mistral_style.jinja", "gemma_style.jinja",
                                         "phi_style.jinja", "features.jinja", "llama2_style.jinja",
                                         "llama31_style.jinja", "mixtral_style.jinja",
                                         "mistral_v7_style.jinja", "qwen25_style.jinja",
                                         "qwen3_thinking_style.jinja", "phi3_style.jinja",
                                         "tools_style.jinja", "gemma3_style.jinja",
                                         "reasoning_style.jinja",
                                         "shipped_qwen2.5.jinja", "shipped_qwen3.jinja",
                                         "shipped_phi3.5.jinja", "shipped_mistral_v3.jinja"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name.erase(name.rfind('.'));
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace liger::trainer
