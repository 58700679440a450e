// Ids and decoded text equal those of the PyPI package `tokenizers` (for a
// tokenizer.model: of `sentencepiece` and `tiktoken`), for one tokenizer of
// each pipeline, over the corpus of tools/fixtures/text_fixtures.py.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <cstring>
#include <thread>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

struct Case {
  const char* name;
  size_t fuzz_strings;
};

class TokenizerGolden : public testing::TestWithParam<Case> {
 protected:
  std::string Dir() const { return GoldenDir() + "/tokenizers/" + GetParam().name; }
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(Dir());

  std::vector<std::string> Corpus() const {
    std::vector<std::string> corpus = FuzzStrings();
    corpus.resize(GetParam().fuzz_strings);
    const std::vector<std::string> data = DataStrings();
    corpus.insert(corpus.end(), data.begin(), data.end());
    return corpus;
  }
};

std::string Sha256(std::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return std::string(reinterpret_cast<const char*>(digest), sizeof(digest));
}

// The 16 bytes that text_fixtures.py's `record` makes.
std::string Record(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const auto count = static_cast<uint32_t>(ids.size());
  const std::string_view id_bytes(reinterpret_cast<const char*>(ids.data()), 4 * ids.size());
  const std::string decoded =
      tokenizer.Decode(ids, false) + std::string(1, '\0') + tokenizer.Decode(ids, true);
  return std::string(reinterpret_cast<const char*>(&count), 4) + Sha256(id_bytes).substr(0, 8) +
         Sha256(decoded).substr(0, 4);
}

std::string Describe(const std::string& text, const std::vector<int32_t>& ids,
                     const std::string& expected, const std::string& got) {
  uint32_t count = 0;
  std::memcpy(&count, expected.data(), 4);
  const bool ids_differ = expected.substr(0, 12) != got.substr(0, 12);
  return std::string(ids_differ ? "ids" : "decoded text") + " of " +
         nlohmann::json(text).dump(-1, ' ', true) + ": got " + std::to_string(ids.size()) +
         " ids " + nlohmann::json(ids).dump() + ", expected " + std::to_string(count);
}

TEST_P(TokenizerGolden, EqualsTokenizersOnTheCorpus) {
  const std::vector<std::string> corpus = Corpus();
  const std::string expected = ReadAll(Dir() + "/encodings.bin");
  ASSERT_EQ(expected.size(), 16 * corpus.size());
  int wrong = 0;
  for (size_t i = 0; i < corpus.size(); ++i) {
    const std::vector<int32_t> ids = tokenizer_->Encode(corpus[i], true);
    const std::string want = expected.substr(16 * i, 16), got = Record(*tokenizer_, ids);
    if (want == got) continue;
    if (++wrong <= 10) ADD_FAILURE() << i << ": " << Describe(corpus[i], ids, want, got);
  }
  EXPECT_EQ(wrong, 0) << "of " << corpus.size();
}

TEST_P(TokenizerGolden, EqualsTokenizersInFullOnSamples) {
  for (const nlohmann::json& row : ReadJsonLines(Dir() + "/samples.jsonl")) {
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    if (row.contains("text")) {
      const std::string text = row["text"];
      EXPECT_EQ(tokenizer_->Encode(text, true), ids) << text;
      EXPECT_EQ(tokenizer_->Encode(text, false),
                row["ids_without_special"].get<std::vector<int32_t>>())
          << text;
    } else {
      EXPECT_EQ(tokenizer_->Decode(ids, false), row["decoded"]) << row;
      EXPECT_EQ(tokenizer_->Decode(ids, true), row["decoded_without_special"]) << row;
    }
  }
}

TEST_P(TokenizerGolden, ThreadsGetTheSameIds) {
  std::vector<std::string> corpus = FuzzStrings();
  corpus.resize(1000);
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : corpus) expected.push_back(tokenizer_->Encode(text, true));
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < corpus.size(); ++i) {
        const size_t at = (i * 7 + t * 131) % corpus.size();
        wrong[t] += tokenizer_->Encode(corpus[at], true) != expected[at];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

INSTANTIATE_TEST_SUITE_P(
    Pipelines, TokenizerGolden,
    testing::Values(Case{"smollm2", 10000}, Case{"llama3", 5000}, Case{"qwen2", 5000},
                    Case{"gpt2", 5000}, Case{"digits", 5000}, Case{"cased", 5000},
                    Case{"lower", 5000}, Case{"splits", 5000}, Case{"llama2", 5000},
                    Case{"phi3", 5000}, Case{"mistral", 5000}, Case{"gemma", 5000},
                    Case{"spm_mistral", 5000}, Case{"spm_gemma", 5000}, Case{"tiktoken", 5000}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace liger::trainer
