// Which tokens have a loss: assistant_only_loss against transformers, response templates against
// TRL's collator (tools/fixtures/loss_mask_fixtures.py).
#include "worker/trainer/data/loss_masks.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/turn_spans.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kGolden = SourceDir() + "/tests/golden/";

nlohmann::ordered_json Fixture() {
  std::ifstream file(kGolden + "data/loss_masks.json");
  return nlohmann::ordered_json::parse(file);
}

const Tokenizer& TokenizerOf(const std::string& name) {
  static std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  auto& tokenizer = tokenizers[name];
  if (!tokenizer) tokenizer = Tokenizer::FromFolder(kGolden + "text/tokenizers/" + name);
  return *tokenizer;
}

std::vector<int32_t> Kept(const std::vector<int32_t>& ids, const std::vector<int>& mask) {
  std::vector<int32_t> labels = ids;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (mask[i] == 0) labels[i] = kIgnoredLabel;
  }
  return labels;
}

TEST(LossMasksTest, AssistantTokensAreTransformers) {
  const auto fixture = Fixture();
  int checked = 0, given_up = 0;
  for (const auto& row : fixture.at("assistant")) {
    const std::string name = row.at("tokenizer"), template_name = row.at("template");
    SCOPED_TRACE(name + " " + template_name + " " + row.at("messages").dump());
    const auto chat = ChatTemplate::FromString(fixture.at("templates").at(template_name),
                                               template_name, nlohmann::ordered_json::object());
    EXPECT_TRUE(chat.MarksGeneration());
    const RenderedChat rendered = chat.RenderWithSpans(row.at("messages"), false);
    Example example{TokenizerOf(name).Encode(rendered.text, false), {}};
    example.labels = example.input_ids;
    ASSERT_EQ(example.input_ids, row.at("ids").get<std::vector<int32_t>>());
    KeepGenerated(TokenizerOf(name), rendered, &example);
    const auto theirs = Kept(example.input_ids, row.at("mask").get<std::vector<int>>());
    // A space at the start of a block is no part of a token where the tokenizer trims offsets; then
    // transformers gives up the row's other blocks.
    if (name == "gpt2" && row.at("messages").back().at("content") == "  twice") {
      std::vector<int32_t> more;
      for (size_t t = 0; t < theirs.size(); ++t) {
        if (theirs[t] != kIgnoredLabel) {
          EXPECT_EQ(example.labels[t], theirs[t]);
        } else if (example.labels[t] != kIgnoredLabel) {
          more.push_back(example.labels[t]);
        }
      }
      EXPECT_THAT(TokenizerOf(name).Decode(more, false), HasSubstr("  twice"));
      ++given_up;
      continue;
    }
    EXPECT_EQ(example.labels, theirs);
    ++checked;
  }
  EXPECT_EQ(checked, 140);
  EXPECT_EQ(given_up, 4);
}

TEST(LossMasksTest, ResponsesAreTrlsCollators) {
  const auto fixture = Fixture();
  int without = 0;
  for (const auto& row : fixture.at("responses")) {
    const auto encoded = [&](const char* key) {
      return TokenizerOf("smollm2").Encode(row.at(key).get<std::string>(), false);
    };
    Example example{row.at("ids").get<std::vector<int32_t>>(), {}};
    example.labels = example.input_ids;
    const bool found =
        KeepResponses(encoded("response_template"), encoded("instruction_template"), &example);
    EXPECT_EQ(example.labels, row.at("labels").get<std::vector<int32_t>>()) << row;
    without += !found;
  }
  EXPECT_EQ(without, 2);
}

// TRL's training templates mark what the plain ones' turns are found to be, and models' own with
// blocks put into them (*_own).
TEST(LossMasksTest, TurnsOfPlainTemplatesAreTrlsBlocks) {
  std::ifstream file(kGolden + "data/turn_masks.json");
  const auto fixture = nlohmann::ordered_json::parse(file);
  const auto none = nlohmann::ordered_json::object();
  std::map<std::string, int> checked, refused;
  for (const auto& row : fixture.at("rows")) {
    const std::string name = row.at("template"), eos = row.at("eos");
    SCOPED_TRACE(row.dump());
    const auto chat = ChatTemplate::FromString(fixture.at("templates").at(name), name,
                                               {{"bos_token", "<s>"}, {"eos_token", eos}});
    ASSERT_FALSE(chat.MarksGeneration());
    RenderedChat found;
    try {
      found = RenderTurns(chat, row.at("messages"), none, eos);
    } catch (const TrainerError& error) {
      EXPECT_THAT(error.what(), HasSubstr("of the assistant renders otherwise"));
      ++refused[name];
      continue;
    }
    ASSERT_EQ(found.text.size(), row.at("bytes").get<size_t>());
    std::string mine(found.text.size(), '.'), theirs = mine;
    for (const auto& [begin, end] : found.generation_spans) {
      std::fill(mine.begin() + begin, mine.begin() + end, 'x');
    }
    for (const auto& block : row.at("blocks")) {
      size_t begin = block[0];
      // The blocks of Qwen hold what the plain templates' generation prompts write, too.
      const bool thinks = name.starts_with("qwen3");
      for (const char* prompted : {name == "qwen2_5" ? "\n" : "", thinks ? "<think>\n" : "",
                                   thinks ? "\n</think>" : ""}) {
        const std::string_view rest = std::string_view(found.text).substr(begin);
        if (rest.starts_with(prompted)) begin += std::string_view(prompted).find_last_of('\n') + 1;
      }
      std::fill(theirs.begin() + begin, theirs.begin() + block[1].get<size_t>(), 'x');
    }
    EXPECT_EQ(mine, theirs) << found.text;
    ++checked[name];
  }
  EXPECT_THAT(checked, testing::SizeIs(fixture.at("templates").size()));
  EXPECT_GE(checked.at("qwen2_5"), 9);
  EXPECT_THAT(refused, IsEmpty());
}

TEST(LossMasksTest, TurnsThatLaterOnesChangeAreNamed) {
  const auto chat = ChatTemplate::FromString(
      "{% for m in messages %}[{{ m.role }}]{{ m.content if loop.last else m.content[:1] }}"
      "{% endfor %}"
      "{% if add_generation_prompt %}[assistant]{% endif %}",
      "t", nlohmann::ordered_json::object());
  const auto none = nlohmann::ordered_json::object();
  const auto message = [](const char* role, const char* content) {
    return nlohmann::ordered_json{{"role", role}, {"content", content}};
  };
  nlohmann::ordered_json messages = {message("user", "a"), message("assistant", "bc"),
                                     message("user", "d"), message("assistant", "ef")};
  EXPECT_THAT(FailureOf([&] { RenderTurns(chat, messages, none, ""); }).message(),
              AllOf(HasSubstr("message 2"), HasSubstr("otherwise when others follow")));
  messages[1]["content"] = "b";
  const RenderedChat found = RenderTurns(chat, messages, none, "");
  EXPECT_EQ(found.text, "[user]a[assistant]b[user]d[assistant]ef");
  EXPECT_EQ(found.generation_spans.size(), 2u);
  messages[0]["content"] = "aa";
  EXPECT_THAT(FailureOf([&] { RenderTurns(chat, messages, none, ""); }).message(),
              AllOf(HasSubstr("message 2"), HasSubstr("render otherwise without it")));
  messages.erase(0);
  EXPECT_THAT(FailureOf([&] { RenderTurns(chat, messages, none, ""); }).message(),
              HasSubstr("message 1 is the assistant's first"));
}

class LossOptionsTest : public testing::Test {
 protected:
  static constexpr char kTurns[] =
      "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
      "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}"
      "{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}";

  Dataset Load(const std::string& content, const LoadOptions& given, const char* chat = kTurns,
               bool strict = false) {
    const TempFile file(content);
    LoadOptions options = given;
    options.train_files = {{file.path()}};
    liger::v1::DatasetSpec spec;
    spec.set_strict(strict);
    const auto chat_template =
        ChatTemplate::FromString(chat, "chat_template.jinja", nlohmann::ordered_json::object());
    return LoadDataset(spec, options, *tokenizer_, &chat_template);
  }

  std::string Trained(const Example& example) const {
    std::vector<int32_t> ids;
    for (size_t t = 0; t < example.labels.size(); ++t) {
      if (example.labels[t] != kIgnoredLabel) ids.push_back(example.labels[t]);
    }
    return tokenizer_->Decode(ids, false);
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(kGolden + "data/chat");
};

TEST_F(LossOptionsTest, AssistantOnlyTrainsEveryAnswerOfAConversation) {
  constexpr char kRows[] = R"({"messages": [{"role": "user", "content": "Hi"},
      {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"},
      {"role": "assistant", "content": "See you"}]})";
  std::string line = kRows;
  std::erase(line, '\n');
  const Dataset dataset = Load(line, {.sft_loss = {.assistant_only_loss = true}});
  EXPECT_EQ(Trained(dataset.train.sequences.at(0)), "Hello<|im_end|>See you<|im_end|>");
  // Of prompt and completion, the completion's alone.
  const Dataset split = Load(
      R"([{"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
                      {"role": "user", "content": "Bye"}],
           "completion": [{"role": "assistant", "content": "See you"}]}])",
      {.sft_loss = {.assistant_only_loss = true}});
  EXPECT_EQ(Trained(split.train.sequences.at(0)), "See you<|im_end|>");
}

TEST_F(LossOptionsTest, ATemplateWithoutBlocksTellsTheTurnsByItsPrefixes) {
  constexpr char kPlain[] =
      "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
      "{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  const Dataset dataset = Load(
      R"([{"messages": [
           {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
           {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "See you"}]}])",
      {.sft_loss = {.assistant_only_loss = true}}, kPlain);
  EXPECT_EQ(Trained(dataset.train.sequences.at(0)), "Hello<|im_end|>\nSee you<|im_end|>\n");
  const auto failure = FailureOf([&] {
    Load(R"([{"messages": [{"role": "assistant", "content": "Hello"}]}])",
         {.sft_loss = {.assistant_only_loss = true}}, kPlain, /*strict=*/true);
  });
  EXPECT_EQ(failure.row(), 1);
  EXPECT_THAT(failure.message(), HasSubstr("message 1 is the assistant's first"));
  EXPECT_THAT(FailureOf([&] {
                Load(R"([{"text": "Hello"}])", {.sft_loss = {.assistant_only_loss = true}});
              }).message(),
              HasSubstr("sft.assistant_only_loss is for conversations"));
}

TEST_F(LossOptionsTest, RowsWithoutTheResponseTemplateAreDroppedAndCounted) {
  constexpr char kRows[] = R"([{"text": "Question: a b Answer: c d"}, {"text": "no such thing"},
                               {"text": "Question: e Answer: f"}])";
  const LoadOptions options{.sft_loss = {.response_template = " Answer:"}};
  const Dataset dataset = Load(kRows, options);
  ASSERT_EQ(dataset.train.num_rows(), 2);
  EXPECT_EQ(Trained(dataset.train.sequences.at(0)), " c d<|im_end|>");
  EXPECT_EQ(dataset.train_stats.without_response_template, 1);
  EXPECT_EQ(dataset.train_stats.dropped_rows, 1);
  EXPECT_THAT(dataset.warnings,
              testing::ElementsAre(HasSubstr(
                  "1 of 3 training rows was dropped (row 2): sft.response_template ' Answer:' is "
                  "not among the tokens (1 does not hold that text at all); give ")));
  const auto failure = FailureOf([&] { Load(kRows, options, kTurns, /*strict=*/true); });
  EXPECT_EQ(failure.row(), 2);
  EXPECT_THAT(failure.message(), HasSubstr("sft.response_template ' Answer:'"));
}

TEST_F(LossOptionsTest, WhyAResponseTemplateIsNotThereIsCounted) {
  // Alone "Answer:" begins with other tokens than behind a space.
  const std::string rows = R"({"text": "no such thing"}, {"text": "a question Answer: f"},
                              {"text": "one two three four five six\nAnswer: g"})";
  LoadOptions options{.sft_loss = {.response_template = "Answer:"}};
  const DataStats stats = Load("[" + rows + "]", options).train_stats;
  EXPECT_EQ(stats.without_response_template, 2);
  EXPECT_EQ(stats.response_template_retokenized, 1);
  EXPECT_EQ(stats.response_template_cut, 0);
  options.max_length = 3;
  const auto cut = FailureOf([&] { Load("[" + rows + "]", options); });
  EXPECT_THAT(cut.message(),
              HasSubstr("no rows are left of 3: sft.response_template 'Answer:' is not among the "
                        "tokens (1 does not hold that text at all; 1 holds the text, but in other "
                        "tokens than it has alone, since its first or last characters join their "
                        "neighbours; 1 loses it to the cut to training.max_length (3))"));
  EXPECT_THAT(cut.action(), testing::AllOf(HasSubstr("datasets inspect"), HasSubstr("line break"),
                                           HasSubstr("raise training.max_length")));
}

TEST_F(LossOptionsTest, ThePromptBeforeAResponseTemplateMayBeCut) {
  constexpr char kRows[] =
      R"([{"text": "one two three four five six seven eight nine ten eleven twelve Answer: g"}])";
  LoadOptions options{.sft_loss = {.response_template = " Answer:"}};
  options.keep_end = true;
  const DataStats whole = Load(kRows, options).train_stats;
  EXPECT_EQ(whole.cut_prompts, 0);
  options.max_length = whole.row_lengths.at(0) / 2 - 1;
  const DataStats stats = Load(kRows, options).train_stats;
  EXPECT_EQ(stats.dropped_rows, 0);
  EXPECT_EQ(stats.cut_prompts, 1);
  EXPECT_EQ(stats.lost_prompts, 0);
}

TEST_F(LossOptionsTest, AResponseTemplateTakesThePlaceOfTheCompletion) {
  const Dataset dataset = Load(R"([{"prompt": "a Answer: b", "completion": " c"}])",
                               {.sft_loss = {.response_template = " Answer:"}});
  EXPECT_EQ(Trained(dataset.train.sequences.at(0)), " b c<|im_end|>");
}

}  // namespace
}  // namespace liger::trainer
