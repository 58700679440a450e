// OpenAI's weight of an assistant's message: 0 keeps its turn out of the loss, whatever has one.
#include "tests/unit/data/dataset_fixture.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;

constexpr char kBlocks[] =
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ '<|im_start|>assistant\n' + m['content'] + '<|im_end|>\n' }}{% endgeneration %}{% else %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

// Two exchanges, with `first` and `second` as members of their answers.
std::string Conversation(const std::string& first, const std::string& second) {
  return R"([{"role": "user", "content": "Hi", "weight": 7},
      {"role": "assistant", "content": "Hello")" +
         first + R"(}, {"role": "user", "content": "Bye"},
      {"role": "assistant", "content": "See you")" +
         second + "}]";
}

class TurnWeightsTest : public DatasetTest {
 protected:
  ExampleSet LoadRow(const std::string& row, LoadOptions options,
                     const ChatTemplate& chat_template) {
    const TempFile file("[" + row + "]");
    options.train_files = {{file.path()}};
    return LoadDataset({}, options, *tokenizer_, &chat_template).train;
  }

  // Of the row's last sequence.
  std::string Trained(const std::string& row, const LoadOptions& options = {}) {
    return TrainedBy(row, options, *chat_template_);
  }
  std::string TrainedBy(const std::string& row, const LoadOptions& options,
                        const ChatTemplate& chat_template) {
    const Example example = LoadRow(row, options, chat_template).sequences.back();
    std::vector<int32_t> ids;
    for (const int32_t label : example.labels) {
      if (label != kIgnoredLabel) ids.push_back(label);
    }
    return tokenizer_->Decode(ids, false);
  }
};

std::string Messages(const std::string& first, const std::string& second) {
  return R"({"messages": )" + Conversation(first, second) + "}";
}

constexpr char kWeightNone[] = R"(, "weight": 0)", kWeightOne[] = R"(, "weight": 1)";
constexpr char kFirst[] = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
constexpr char kSecond[] = "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n";

TEST_F(TurnWeightsTest, OfAllTokens) {
  EXPECT_EQ(Trained(Messages(kWeightNone, kWeightOne)),
            std::string(kFirst) + kSecond + "See you<|im_end|>\n");
  EXPECT_EQ(Trained(Messages("", R"(, "weight": 0.0)")),
            std::string(kFirst) + "Hello<|im_end|>\n" + kSecond);
  EXPECT_EQ(Trained(Messages(R"(, "weight": null)", kWeightOne)), Trained(Messages("", "")));
}

TEST_F(TurnWeightsTest, OfTheAssistantsTurns) {
  const LoadOptions options{.sft_loss = {.assistant_only_loss = true}};
  EXPECT_EQ(Trained(Messages(kWeightNone, ""), options), "See you<|im_end|>\n");
  EXPECT_EQ(Trained(Messages("", kWeightNone), options), "Hello<|im_end|>\n");
  // A block that holds what the generation prompt writes goes as a whole.
  const auto blocks = ChatTemplate::FromString(kBlocks, "t", ordered_json::object());
  EXPECT_EQ(TrainedBy(Messages(kWeightNone, ""), options, blocks),
            "<|im_start|>assistant\nSee you<|im_end|>\n");
}

TEST_F(TurnWeightsTest, OfACompletionAndOfResponses) {
  const std::string row = R"({"prompt": [{"role": "user", "content": "q"}], "completion": )" +
                          Conversation(kWeightNone, "") + "}";
  EXPECT_EQ(Trained(row), "user\nHi<|im_end|>\n<|im_start|>assistant\n" + std::string(kSecond) +
                              "See you<|im_end|>\n");
  const LoadOptions responses{.sft_loss = {.response_template = "<|im_start|>assistant\n",
                                           .instruction_template = "<|im_start|>user\n"}};
  EXPECT_EQ(Trained(Messages(kWeightNone, ""), responses), "See you<|im_end|>\n");
}

TEST_F(TurnWeightsTest, OfAPairsAnswers) {
  const std::string row = R"({"prompt": [{"role": "user", "content": "q"}],
      "chosen": [{"role": "assistant", "content": "a"}],
      "rejected": [{"role": "assistant", "content": "b", "weight": 0},
                   {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";
  LoadOptions options;
  options.method = liger::v1::JobSpec::kDpo;
  EXPECT_EQ(Trained(row, options),
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n");
  options.method = liger::v1::JobSpec::kOrpo;
  EXPECT_EQ(FailureOf([&] { LoadRow(row, options, *chat_template_); }).field(), "weight");
}

TEST_F(TurnWeightsTest, AConversationMayBeginWithSuchATurn) {
  EXPECT_EQ(Trained(R"({"messages": [{"role": "assistant", "content": "Hi", "weight": 0},
                {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "See you"}]})"),
            std::string(kSecond) + "See you<|im_end|>\n");
}

TEST_F(TurnWeightsTest, OtherWeightsAreRefused) {
  for (const std::string weight : {"0.5", "2", "true", "\"0\""}) {
    const auto failure =
        FailureOf([&] { LoadRow(Messages("", R"(, "weight": )" + weight), {}, *chat_template_); });
    EXPECT_EQ(failure.field(), "weight");
    EXPECT_EQ(failure.row(), 1);
    EXPECT_THAT(failure.message(), HasSubstr("message 4's weight is " + weight + ", neither 0"));
  }
}

TEST_F(TurnWeightsTest, ATurnThatIsNotFoundIsNamed) {
  const auto chat_template = ChatTemplate::FromString(
      "{% for m in messages %}[{{ m.role }}]{{ m.content if loop.last else m.content[:1] }}"
      "{% endfor %}",
      "t", ordered_json::object());
  const auto failure = FailureOf([&] { LoadRow(Messages(kWeightNone, ""), {}, chat_template); });
  EXPECT_EQ(failure.field(), "weight");
  EXPECT_THAT(failure.message(), AllOf(HasSubstr("row 1"), HasSubstr("message 2 of the assistant"),
                                       HasSubstr("weight of 0")));
}

}  // namespace
}  // namespace liger::trainer
