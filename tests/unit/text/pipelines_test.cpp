// Random pipelines of tokenizer.json's components give the ids and the texts that PyPI's
// `tokenizers` gives, see tools/fixtures/pipeline_fixtures.py.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

// FNV-1a of 32 bits in hexadecimal.
std::string Digest(std::string_view bytes) {
  uint32_t value = 0x811C9DC5;
  for (const char byte : bytes) value = (value ^ static_cast<unsigned char>(byte)) * 0x01000193;
  char hex[9];
  std::snprintf(hex, sizeof(hex), "%08x", value);
  return hex;
}

std::string Digest(const std::vector<int32_t>& ids) {
  return Digest(std::string_view(reinterpret_cast<const char*>(ids.data()), 4 * ids.size()));
}

class Pipelines : public testing::Test {
 protected:
  Pipelines() { std::filesystem::create_directories(dir_); }
  ~Pipelines() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<Tokenizer> Load(const json& pipeline) const {
    json file = pipeline["tokenizer"];
    file["model"] = golden_["models"][pipeline["model"].get<size_t>()];
    file["model"].update(pipeline["fields"]);
    std::ofstream(dir_ + "/tokenizer.json") << file;
    return Tokenizer::FromFolder(dir_);
  }

  // How many of the strings and of the rows of ids come out otherwise.
  int Differences(const json& pipeline, const Tokenizer& tokenizer) const {
    int wrong = 0;
    const std::string ids = pipeline["ids"], texts = pipeline["texts"];
    const size_t first = pipeline["first"];
    for (size_t i = 0; 8 * i < ids.size(); ++i) {
      const std::vector<int32_t> got = tokenizer.Encode(strings_.at(first + i), true);
      if (Digest(got) == ids.substr(8 * i, 8)) continue;
      if (++wrong == 1) ADD_FAILURE() << json(strings_[first + i]) << " gives " << json(got);
    }
    for (size_t i = 0; 8 * i < texts.size(); ++i) {
      const auto row = pipeline["rows"][i].get<std::vector<int32_t>>();
      const std::string got = tokenizer.Decode(row, false);
      if (Digest(got) == texts.substr(8 * i, 8)) continue;
      if (++wrong == 1) ADD_FAILURE() << json(row) << " gives " << json(got);
    }
    return wrong;
  }

  const std::string dir_ = testing::TempDir() + "/text_pipelines_" + std::to_string(::getpid());
  const json golden_ = json::parse(ReadAll(GoldenDir() + "/pipelines.json"));
  const std::vector<std::string> strings_ = FuzzStrings();
};

TEST_F(Pipelines, EqualTokenizers) {
  ASSERT_GE(golden_["pipelines"].size(), 100u);
  int number = 0;
  for (const json& pipeline : golden_["pipelines"]) {
    SCOPED_TRACE(std::to_string(number++) + ": " + pipeline["fields"].dump() +
                 pipeline["tokenizer"].dump());
    ASSERT_EQ(pipeline["rows"].size() * 8, pipeline["texts"].get<std::string>().size());
    try {
      EXPECT_EQ(Differences(pipeline, *Load(pipeline)), 0);
    } catch (const TrainerError& error) {
      ADD_FAILURE() << error.what();
    }
  }
}

}  // namespace
}  // namespace liger::trainer
