#include "worker/trainer/data/empty_parts.h"

#include <string>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using std::string_literals::operator""s;
using nlohmann::ordered_json;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

bool IsEmpty(const char* answer) {
  const PromptCompletionRow row{ordered_json::parse(R"([{"role": "user", "content": ""}])"),
                                ordered_json::parse(answer)};
  const PreferenceRow pair{row.prompt, row.completion,
                           ordered_json::parse(R"([{"role": "assistant", "content": "b"}])")};
  EXPECT_EQ(HasEmptyAnswer({.content = pair}), HasEmptyAnswer({.content = row})) << answer;
  EXPECT_EQ(HasEmptyAnswer({.content = TextRow{row.completion}}), HasEmptyAnswer({.content = row}))
      << answer;
  return HasEmptyAnswer({.content = row});
}

TEST(EmptyPartsTest, Conversations) {
  for (const char* empty : {
           R"([{"role": "assistant", "content": ""}])",
           R"([{"role": "assistant"}])",
           R"([{"role": "assistant", "name": "bot", "content": null, "tool_calls": []}])",
           R"([{"role": "assistant", "content": " \n", "weight": 1}])",
           R"([{"role": "assistant", "content": [{"type": "text", "text": ""}]}])",
           R"([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"},
               {"role": "assistant", "content": ""}])",
       }) {
    EXPECT_TRUE(IsEmpty(empty)) << empty;
  }
  for (const char* says : {
           R"([{"role": "assistant", "content": "a"}])",
           R"([{"role": "tool", "content": ""}, {"role": "assistant", "content": "a"}])",
           R"([{"role": "assistant", "content": "", "reasoning_content": "a"}])",
           R"([{"role": "assistant", "content": null,
                "tool_calls": [{"type": "function", "function": {"name": "f"}}]}])",
           R"([{"role": "assistant", "content": [{"type": "text", "text": "a"}]}])",
       }) {
    EXPECT_FALSE(IsEmpty(says)) << says;
  }
}

TEST(EmptyPartsTest, Texts) {
  EXPECT_TRUE(HasEmptyAnswer({.content = PromptCompletionRow{"a"s, ""s}}));
  EXPECT_TRUE(HasEmptyAnswer({.content = PromptCompletionRow{"a"s, " \r\n\t"s}}));
  EXPECT_FALSE(HasEmptyAnswer({.content = PromptCompletionRow{""s, " b"s}}));
  EXPECT_TRUE(HasEmptyAnswer({.content = PreferenceRow{"a"s, ""s, "b"s}}));
  EXPECT_TRUE(HasEmptyAnswer({.content = PreferenceRow{"a"s, "b"s, ""s}}));
  EXPECT_FALSE(HasEmptyAnswer({.content = PreferenceRow{""s, "b"s, "c"s}}));
  EXPECT_TRUE(HasEmptyAnswer({.content = TextRow{""s}}));
  EXPECT_FALSE(HasEmptyAnswer({.content = TextRow{"a"s}}));
  EXPECT_FALSE(HasEmptyAnswer({.content = Example{}}));
}

TEST(EmptyPartsTest, ConversationsOfOthersAlone) {
  const auto lacks = [](const char* messages) {
    return LacksAssistant({.content = TextRow{ordered_json::parse(messages)}});
  };
  EXPECT_TRUE(lacks(R"([{"role": "user", "content": "a"}])"));
  EXPECT_TRUE(lacks(R"([{"role": "system", "content": "a"}, {"role": "user", "content": "a"}])"));
  EXPECT_FALSE(lacks(R"([{"role": "user", "content": "a"},
                         {"role": "assistant", "content": "b"}])"));
  EXPECT_FALSE(LacksAssistant({.content = TextRow{"a text"s}}));
  EXPECT_FALSE(LacksAssistant({.content = PromptCompletionRow{"a"s, "b"s}}));
}

TEST(EmptyPartsTest, Prompts) {
  EXPECT_TRUE(HasEmptyPrompt({.content = PromptCompletionRow{""s, "b"s}}));
  EXPECT_FALSE(HasEmptyPrompt({.content = PromptCompletionRow{"a"s, ""s}}));
  EXPECT_TRUE(HasEmptyPrompt({.content = PreferenceRow{" \n"s, "b"s, "c"s}}));
  EXPECT_FALSE(HasEmptyPrompt({.content = PreferenceRow{"a"s, ""s, ""s}}));
  EXPECT_FALSE(HasEmptyPrompt({.content = TextRow{""s}}));
  const auto question = ordered_json::parse(R"([{"role": "user", "content": ""}])");
  EXPECT_FALSE(HasEmptyPrompt({.content = PromptCompletionRow{question, question}}));
}

Dataset Load(const std::string& content, const liger::v1::DatasetSpec& spec, LoadOptions options) {
  const std::string model = SourceDir() + "/tests/golden/data/chat";
  const TempFile file(content);
  options.train_files = {{file.path()}};
  const auto chat_template = ChatTemplate::FromFolder(model);
  return LoadDataset(spec, options, *Tokenizer::FromFolder(model), &*chat_template);
}

TEST(EmptyPartsTest, EmptyAnswersAreCountedAndKept) {
  const Dataset texts = Load(R"({"prompt": "a", "completion": ""}
{"prompt": "a", "completion": " \n"}
{"prompt": "a", "completion": "b"}
)",
                             {}, {});
  EXPECT_EQ(texts.train.num_rows(), 3);
  EXPECT_EQ(texts.train_stats.empty_answers, 2);
  EXPECT_THAT(texts.warnings, Contains(HasSubstr("in 2 of 3 training rows an answer is empty")));
  const Dataset none = Load(R"({"prompt": "a", "completion": "b"})", {}, {});
  EXPECT_EQ(none.train_stats.empty_answers, 0);
  EXPECT_THAT(none.warnings, Not(Contains(HasSubstr("empty"))));

  for (const auto method :
       {liger::v1::JobSpec::kDpo, liger::v1::JobSpec::kOrpo, liger::v1::JobSpec::kKto}) {
    LoadOptions options;
    options.method = method;
    const Dataset pairs = Load(R"({"prompt": "a", "chosen": "b", "rejected": ""}
{"prompt": "a", "chosen": "", "rejected": "c"}
{"prompt": "a", "chosen": "b", "rejected": "c"}
)",
                               {}, options);
    EXPECT_EQ(pairs.train_stats.empty_answers, 2) << method;
  }

  // An assistant's turn that says nothing, and one that calls a tool.
  LoadOptions options;
  const Dataset turns = Load(
      R"([
{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "a"}]},
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]},
{"prompt": [{"role": "user", "content": "a"}],
 "completion": [{"role": "assistant", "content": " "}]}])",
      {}, options);
  EXPECT_EQ(turns.train_stats.empty_answers, 2);
}

// Intel's pairs call the prompt question: their answers share no beginning.
TEST(EmptyPartsTest, EmptyPromptsAreCountedAndKept) {
  const char* pairs = R"({"question": "Why?", "chosen": "Because.", "rejected": "No."}
{"question": "How?", "chosen": "As it is.", "rejected": "As it was."}
{"question": "Who?", "chosen": "He.", "rejected": "Me."}
)";
  LoadOptions options;
  options.method = liger::v1::JobSpec::kDpo;
  const Dataset unnamed = Load(pairs, {}, options);
  EXPECT_EQ(unnamed.train.num_rows(), 3);
  EXPECT_EQ(unnamed.train_stats.empty_prompts, 2);
  EXPECT_THAT(unnamed.warnings,
              Contains(AllOf(HasSubstr("in 2 of 3 training rows the prompt is empty"),
                             HasSubstr("dataset.columns (prompt: question)"))));
  liger::v1::DatasetSpec spec;
  (*spec.mutable_columns())["prompt"] = "question";
  const Dataset named = Load(pairs, spec, options);
  EXPECT_EQ(named.train_stats.empty_prompts, 0);
  EXPECT_THAT(named.warnings, Not(Contains(HasSubstr("prompt is empty"))));
}

}  // namespace
}  // namespace liger::trainer
