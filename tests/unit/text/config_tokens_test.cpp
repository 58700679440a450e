// Tokens that only the files beside tokenizer.json name, as transformers has them
// (tools/fixtures/config_token_fixtures.py).

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/paths.h"
#include "tests/unit/text/corpus.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using json = nlohmann::ordered_json;  // the files' order counts

// A model folder that goes with the object.
class Folder {
 public:
  Folder() { std::filesystem::create_directories(path_); }
  ~Folder() { std::filesystem::remove_all(path_); }

  void Write(const std::string& name, const json& content) const {
    std::ofstream(path_ + "/" + name) << content;
  }
  // tests/golden/data/bos/tokenizer.json with `changes`.
  void WriteTokenizer(const json& changes) const {
    json tokenizer = json::parse(ReadAll(SourceDir() + "/tests/golden/data/bos/tokenizer.json"));
    tokenizer.update(changes);
    Write("tokenizer.json", tokenizer);
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_ = testing::TempDir() + "/config_tokens_" + std::to_string(::getpid());
};

class ConfigTokensTest : public testing::TestWithParam<json> {};

TEST_P(ConfigTokensTest, AreThoseOfTransformers) {
  const json& golden = GetParam();
  const Folder folder;
  folder.WriteTokenizer(golden["changes"]);
  for (const auto& [name, content] : golden["files"].items()) folder.Write(name, content);
  const auto tokenizer = Tokenizer::FromFolder(folder.path());
  EXPECT_EQ(tokenizer->vocab_size(), golden["size"].get<int64_t>());
  const auto expect_role = [&](const char* role, std::optional<int32_t> id) {
    EXPECT_EQ(id ? json(*id) : json(), golden["roles"][role]) << role;
  };
  expect_role("bos_token", tokenizer->bos_id());
  expect_role("eos_token", tokenizer->eos_id());
  expect_role("unk_token", tokenizer->unk_id());
  expect_role("pad_token", tokenizer->pad_id());
  for (const json& row : golden["rows"]) {
    const std::string text = row["text"];
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer->Encode(text, true), ids) << text;
    EXPECT_EQ(tokenizer->Encode(text, false), row["bare"].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(tokenizer->Decode(ids, false), row["decoded"]) << text;
    EXPECT_EQ(tokenizer->Decode(ids, true), row["skipped"]) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, ConfigTokensTest,
                         testing::ValuesIn(json::parse(ReadAll(GoldenDir() + "/config_tokens.json"))
                                               .get<std::vector<json>>()),
                         [](const auto& info) {
                           return info.param["name"].template get<std::string>();
                         });

TEST(MalformedConfigTokensTest, AreNamed) {
  const Folder folder;
  folder.WriteTokenizer(json::object());
  const auto error = [&](const json& config) -> std::string {
    folder.Write("tokenizer_config.json", config);
    try {
      Tokenizer::FromFolder(folder.path());
    } catch (const TrainerError& e) {
      return e.what();
    }
    return "none";
  };
  EXPECT_EQ(error({{"eos_token", 3}}), "tokenizer_config.json: eos_token must be an object");
  EXPECT_EQ(error({{"pad_token", {{"lstrip", true}}}}),
            "tokenizer_config.json: pad_token lacks \"content\"");
  EXPECT_EQ(error({{"added_tokens_decoder", {{"x", {{"content", "y"}}}}}}),
            "tokenizer_config.json: added_tokens_decoder.x is not under a token id");
  EXPECT_EQ(error({{"added_tokens_decoder", {{"5", {{"content", "y"}, {"special", "no"}}}}}}),
            "tokenizer_config.json: added_tokens_decoder.5.special must be true or false");
}

}  // namespace
}  // namespace liger::trainer
