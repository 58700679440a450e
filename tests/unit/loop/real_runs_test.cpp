// SmolLM2-135M with LoRA on the rows of tests/data: training does what it is for. Fails, never
// skips, without the model (tools/fetch_smollm2; LIGER_SMOLLM2_DIR).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "common/spec/spec.h"
#include "tests/paths.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using Event = liger::trainer::v1::Event;

constexpr size_t kPairs = 16, kMostCharacters = 450, kMostPairCharacters = 900;

json Data(const std::string& name) {
  std::ifstream file(SourceDir() + "/tests/data/" + name);
  return json::parse(file);
}

json Message(const std::string& role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

// The file's first kPairs short single-turn pairs: prompt, chosen and rejected as messages.
std::vector<json> Pairs() {
  std::vector<json> pairs;
  for (const json& row : Data("dpo_en_demo.json")) {
    const std::string chosen = row.at("chosen").at("value"),
                      rejected = row.at("rejected").at("value");
    const auto& turns = row.at("conversations");
    if (turns.size() != 1) continue;
    const std::string question = turns[0].at("value");
    if (question.size() + std::max(chosen.size(), rejected.size()) > kMostPairCharacters) continue;
    pairs.push_back({{"prompt", json::array({Message("user", question)})},
                     {"chosen", json::array({Message("assistant", chosen)})},
                     {"rejected", json::array({Message("assistant", rejected)})}});
    if (pairs.size() == kPairs) break;
  }
  EXPECT_EQ(pairs.size(), kPairs);
  return pairs;
}

class RealRunTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("LIGER_SMOLLM2_DIR");
    ASSERT_NE(folder, nullptr) << "LIGER_SMOLLM2_DIR is not set";
    request_.launch.set_version(1);
    request_.launch.set_task_kind(liger::trainer::v1::TASK_KIND_TRAIN);
    request_.launch.set_attempt_dir(job_.Path("attempt"));
    spec().set_name("real");
    spec().mutable_model()->set_name(folder);
    spec().mutable_lora()->set_r(8);
    auto* training = spec().mutable_training();
    training->set_per_device_train_batch_size(4);
    training->set_max_length(192);
    training->set_eval_on_start(true);
  }

  liger::v1::JobSpec& spec() { return *request_.launch.mutable_resolved_spec(); }

  std::string Write(const std::string& name, const std::vector<json>& rows) {
    std::string text;
    for (const json& row : rows) text += row.dump() + "\n";
    job_.WriteFile(name, text);
    return job_.Path(name);
  }

  // Before the first step, and after the last.
  struct Evaluations {
    std::map<std::string, double> before, after;
  };
  Evaluations Train(int steps, double learning_rate) {
    spec().mutable_training()->set_max_steps(steps);
    spec().mutable_training()->set_learning_rate(learning_rate);
    EXPECT_TRUE(ValidateSpec(spec()).empty());
    FillDefaults(&spec());
    const TaskOutcome outcome = RunRecorded(request_);
    EXPECT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();
    const auto evaluations = outcome.sink.All(Event::kEval);
    EXPECT_EQ(evaluations.size(), 2u);
    if (evaluations.size() != 2) return {};
    const auto values = [](const Event& event) {
      const auto& map = event.eval().values();
      return std::map<std::string, double>(map.begin(), map.end());
    };
    return {values(evaluations.front()), values(evaluations.back())};
  }

  // Trains on the pairs and looks at them.
  void ExpectWiderMargin(const std::vector<json>& rows) {
    const std::string file = Write("rows.jsonl", rows);
    spec().mutable_dataset()->set_uri(file);
    spec().mutable_dataset()->set_eval_uri(file);
    const Evaluations e = Train(/*steps=*/8, /*learning_rate=*/3e-4);
    ASSERT_TRUE(e.after.contains("eval_rewards/margins"));
    RecordProperty("margin_before", std::to_string(e.before.at("eval_rewards/margins")));
    RecordProperty("margin_after", std::to_string(e.after.at("eval_rewards/margins")));
    EXPECT_GT(e.after.at("eval_rewards/margins"), e.before.at("eval_rewards/margins") + 0.01);
    EXPECT_LT(e.after.at("eval_loss"), e.before.at("eval_loss"));
  }

  TinyJob job_;
  Request request_;
};

TEST_F(RealRunTest, SftLowersTheLossOfHeldOutRows) {
  spec().mutable_sft();
  std::vector<json> rows;
  for (const json& row : Data("alpaca_en_demo.json")) {
    if (row.at("instruction").get<std::string>().size() +
            row.at("input").get<std::string>().size() +
            row.at("output").get<std::string>().size() <=
        kMostCharacters) {
      rows.push_back(row);
    }
    if (rows.size() == 96) break;
  }
  ASSERT_EQ(rows.size(), 96u);
  spec().mutable_dataset()->set_uri(Write("rows.jsonl", rows));
  spec().mutable_dataset()->set_eval_fraction(0.25);
  const Evaluations e = Train(/*steps=*/18, /*learning_rate=*/1e-3);
  RecordProperty("eval_loss_before", std::to_string(e.before.at("eval_loss")));
  RecordProperty("eval_loss_after", std::to_string(e.after.at("eval_loss")));
  EXPECT_LT(e.after.at("eval_loss"), e.before.at("eval_loss") - 0.02);
}

TEST_F(RealRunTest, DpoWidensTheMargin) {
  spec().mutable_dpo();
  ExpectWiderMargin(Pairs());
}

TEST_F(RealRunTest, OrpoWidensTheMargin) {
  spec().mutable_orpo()->set_beta(1);
  ExpectWiderMargin(Pairs());
}

TEST_F(RealRunTest, KtoWidensTheMargin) {
  spec().mutable_kto();
  std::vector<json> rows;
  for (const json& pair : Pairs()) {
    for (const bool wanted : {true, false}) {
      rows.push_back({{"prompt", pair.at("prompt")},
                      {"completion", pair.at(wanted ? "chosen" : "rejected")},
                      {"label", wanted}});
    }
  }
  ExpectWiderMargin(rows);
}

}  // namespace
}  // namespace liger::trainer
