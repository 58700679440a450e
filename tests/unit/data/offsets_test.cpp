// The tokens of a span are those that the offsets of PyPI's `tokenizers` say
// (tools/fixtures/offset_fixtures.py), on fuzzed strings.
#include "tests/unit/data/test_util.h"
#include "tests/unit/text/corpus.h"
#include "worker/trainer/data/loss_masks.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

class OffsetsTest : public testing::TestWithParam<const char*> {};

// The first and the last token with a loss; {-1, -1}: none has one.
std::pair<int64_t, int64_t> Kept(const Tokenizer& tokenizer, const std::string& text, size_t begin,
                                 size_t end) {
  Example example{tokenizer.Encode(text, false), {}};
  example.labels = example.input_ids;
  KeepGenerated(tokenizer, {text, {{begin, end}}}, &example);
  std::pair<int64_t, int64_t> kept = {-1, -1};
  for (size_t t = 0; t < example.labels.size(); ++t) {
    if (example.labels[t] == kIgnoredLabel) continue;
    if (kept.first < 0) kept.first = static_cast<int64_t>(t);
    kept.second = static_cast<int64_t>(t);
  }
  return kept;
}

TEST_P(OffsetsTest, EqualTokenizers) {
  const std::string name = GetParam();
  const auto strings = FuzzStrings();
  const auto tokenizer = Tokenizer::FromFolder(GoldenDir() + "/tokenizers/" + name);
  const json golden =
      json::parse(ReadAll(std::string(LIGER_SOURCE_DIR) + "/tests/golden/data/offsets.json"));
  int wrong = 0;
  for (const json& row : golden.at(name).at("rows")) {
    const std::string& text = strings.at(row[0].get<size_t>());
    const std::pair<int64_t, int64_t> expected = {row[3], row[4]};
    const auto got = Kept(*tokenizer, text, row[1], row[2]);
    if (got == expected) continue;
    if (++wrong <= 5) {
      ADD_FAILURE() << json(text).dump(-1, ' ', true) << " " << row.dump() << " gives " << got.first
                    << " to " << got.second;
    }
  }
  EXPECT_EQ(wrong, 0) << "of " << golden.at(name).at("rows").size();
  EXPECT_GT(golden.at(name).at("rows").size(), 500u);
}

// SmolLM2's vocabulary lacks the byte 0x13: no token is of it, and the offsets of `tokenizers`
// are wrong behind it. What a span trains decodes to the span.
TEST(OffsetsOfDroppedBytesTest, TokensAreTheSpans) {
  const auto tokenizer = Tokenizer::FromFolder(GoldenDir() + "/tokenizers/smollm2");
  const std::string before = "<|im_start|>user\na\x13 b\x13<|im_end|>\n";
  for (const std::string block : {"Hello there", "caf\u00e9 \u180e!", "x\x13y", "\x13x", "x\x13"}) {
    for (const char* after : {"<|im_end|>\n", "<|im_end|>\x13\n"}) {
      const std::string text = before + block + after;
      const auto [first, last] =
          Kept(*tokenizer, text, before.size(), before.size() + block.size());
      const auto ids = tokenizer->Encode(text, false);
      ASSERT_GE(first, 0) << json(text);
      std::string expected = block;
      std::erase(expected, '\x13');
      EXPECT_EQ(tokenizer->Decode(std::vector(ids.begin() + first, ids.begin() + last + 1), false),
                expected)
          << json(text);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, OffsetsTest,
                         testing::Values("cased", "digits", "gemma", "llama2", "llama3", "mistral",
                                         "phi3", "qwen2", "smollm2", "splits"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace liger::trainer
