// Every file of examples/, trained for two steps by the program as a user would start it: the
// names of its model and data are those of the default catalog, and lie in the working folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "tests/paths.h"
#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> Examples() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(SourceDir() + "/examples")) {
    const std::string name = entry.path().stem();
    if (!absl::EndsWith(name, "_grid")) names.push_back(name);  // experiments: experiment_e2e_test
  }
  std::sort(names.begin(), names.end());
  return names;
}

class ExamplesTest : public testing::TestWithParam<std::string> {
 protected:
  ExamplesTest() {
    fs::rename(job_.Path("model"), job_.Path("smollm2-135m"));
    nlohmann::json config =
        nlohmann::json::parse(ReadAll(job_.Path("smollm2-135m/tokenizer_config.json")));
    config["chat_template"] =
        "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
        "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    job_.WriteFile("smollm2-135m/tokenizer_config.json", config.dump());
    for (const auto& [name, file] : {std::pair("alpaca-en-demo", "alpaca_en_demo.json"),
                                     {"dpo-en-demo", "dpo_en_demo.json"},
                                     {"kto-en-demo", "kto_en_demo.json"},
                                     {"c4-demo", "c4_demo.jsonl"}}) {
      fs::create_symlink(SourceDir() + "/tests/data/" + file, job_.Path(name));
    }
  }

  TinyJob job_;
};

// A number of an example by the name before it.
int NumberIn(const std::string& name, const std::string& key, int if_none) {
  const std::string text = ReadAll(SourceDir() + "/examples/" + name + ".yaml");
  const size_t at = text.find(key + ": ");
  return at == std::string::npos ? if_none : std::stoi(text.substr(at + key.size() + 2));
}

// What takes long rows takes shorter ones here.
std::string MaxLength(const std::string& name) {
  constexpr int kMost = 4096;
  return NumberIn(name, "max_length", 0) <= kMost
             ? ""
             : " --set training.max_length=" + std::to_string(kMost);
}

TEST_P(ExamplesTest, Trains) {
  // Ranks start where the names are.
  fs::current_path(job_.dir());
  RankProcesses ranks(NumberIn(GetParam(), "count", 1),
                      "--spec " + SourceDir() + "/examples/" + GetParam() +
                          ".yaml --output out --set model.name=smollm2-135m --set "
                          "model.random_init=true --set resources.device_kind=CPU --set "
                          "training.max_steps=2 --set training.logging_steps=1" +
                          MaxLength(GetParam()),
                      job_.Path("log"));
  EXPECT_THAT(ranks.Wait(absl::Minutes(5)), testing::Each(0)) << ranks.Output(0);
  fs::current_path("/");
  EXPECT_TRUE(fs::exists(job_.Path("out/model.safetensors")) ||
              fs::exists(job_.Path("out/adapter_model.safetensors")));
  std::ifstream metrics(job_.Path("out/metrics.jsonl"));
  int steps = 0, evaluations = 0;
  for (std::string line; std::getline(metrics, line);) {
    const auto object = nlohmann::json::parse(line);
    if (object.contains("loss")) {
      ++steps;
      EXPECT_TRUE(std::isfinite(object["loss"].get<double>())) << line;
      EXPECT_GT(object["grad_norm"].get<double>(), 0) << line;
    }
    evaluations += object.contains("eval_loss");
  }
  EXPECT_EQ(steps, 2);
  EXPECT_GE(evaluations, 1) << "every example has an evaluation set";
}

// With the tokenizer that they are meant for; fails, never skips, without it.
TEST_P(ExamplesTest, WarnsOfNothingUnmeant) {
  const char* smollm2 = std::getenv("LIGER_SMOLLM2_DIR");
  ASSERT_NE(smollm2, nullptr) << "LIGER_SMOLLM2_DIR is not set (tools/fetch_smollm2)";
  // What the file's comments say of it.
  const std::map<std::string, std::vector<std::string>> meant = {
      {"kto",
       {"3 of 48 training rows are cut", "1 of 16 evaluation rows is cut",
        "keep less than half of the prompt", "keeps less than half of the prompt"}},
      {"mixing", {"c4_demo.jsonl: 28 of 191 training rows are cut"}},
      {"sequence_parallel_llama3_8b", {"positions that the model was trained for"}}};
  fs::current_path(job_.dir());
  RankProcesses check(1,
                      "--check --spec " + SourceDir() + "/examples/" + GetParam() +
                          ".yaml --set model.name=" + smollm2 +
                          // 4 is a divisor of Llama's query heads, not of SmolLM2's.
                          " --set parallel.sequence_parallel_size=1",
                      job_.Path("log"));
  EXPECT_THAT(check.Wait(absl::Minutes(2)), testing::Each(0)) << check.Output(0);
  fs::current_path("/");
  for (const absl::string_view line : absl::StrSplit(check.Output(0), '\n')) {
    if (!absl::StartsWith(line, "warning: ")) continue;
    const auto expected = meant.find(GetParam());
    EXPECT_TRUE(
        expected != meant.end() &&
        std::ranges::any_of(expected->second,
                            [&](const std::string& said) { return absl::StrContains(line, said); }))
        << line;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, ExamplesTest, testing::ValuesIn(Examples()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace liger::trainer
