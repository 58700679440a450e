// The tokens of a span are those that the offsets of PyPI's `tokenizers` say
// (tools/fixtures/offset_fixtures.py), on fuzzed strings and on every string of tests/data.
#include "tests/paths.h"
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

json Golden() { return json::parse(ReadAll(SourceDir() + "/tests/golden/data/offsets.json")); }

// Shows the first few that differ; whether these do.
bool Differs(const Tokenizer& tokenizer, const std::string& text, const json& span,
             const std::pair<int64_t, int64_t>& expected, int wrong_before) {
  const auto got = Kept(tokenizer, text, span[0], span[1]);
  if (got == expected) return false;
  if (wrong_before < 5) {
    ADD_FAILURE() << json(text).dump(-1, ' ', true) << " " << span.dump() << " gives " << got.first
                  << " to " << got.second << ", not " << expected.first << " to "
                  << expected.second;
  }
  return true;
}

TEST_P(OffsetsTest, EqualTokenizersOnFuzzedStrings) {
  const auto strings = FuzzStrings();
  const auto tokenizer = Tokenizer::FromFolder(GoldenDir() + "/tokenizers/" + GetParam());
  const json rows = Golden().at(GetParam()).at("rows");
  int wrong = 0;
  for (const json& row : rows) {
    wrong += Differs(*tokenizer, strings.at(row[0].get<size_t>()), {row[1], row[2]},
                     {row[3], row[4]}, wrong);
  }
  EXPECT_EQ(wrong, 0) << "of " << rows.size();
  EXPECT_GT(rows.size(), 500u);
}

TEST_P(OffsetsTest, EqualTokenizersOnTheDataSets) {
  const auto strings = DataStrings();
  const auto tokenizer = Tokenizer::FromFolder(GoldenDir() + "/tokenizers/" + GetParam());
  const json golden = Golden();
  const json &spans = golden.at("data_spans"), &tokens = golden.at(GetParam()).at("data_tokens");
  ASSERT_EQ(spans.size(), strings.size());
  ASSERT_EQ(tokens.size(), 2 * strings.size());
  int wrong = 0;
  size_t compared = 0;
  for (size_t i = 0; i < strings.size(); ++i) {
    if (tokens[2 * i] < 0) continue;  // an empty string, or one without offsets there
    ++compared;
    wrong += Differs(*tokenizer, strings[i], spans[i], {tokens[2 * i], tokens[2 * i + 1]}, wrong);
  }
  EXPECT_EQ(wrong, 0) << "of " << compared;
  EXPECT_GT(compared, strings.size() * 9 / 10);
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
