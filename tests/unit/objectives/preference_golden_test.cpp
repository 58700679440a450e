// DPO's, KTO's and CPO's losses against TRL in fp32 (tools/fixtures/preference_fixtures.py).
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/models/golden.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/objectives/dpo.h"
#include "worker/trainer/objectives/kto.h"

namespace liger::trainer {
namespace {

constexpr double kTolerance = 1e-5, kCurveTolerance = 1e-4;

const nlohmann::json& Expected() {
  static const nlohmann::json expected =
      golden::ReadJson(golden::Folder("preference") + "/expected.json");
  return expected;
}

struct Case {
  std::string method, name, kernels;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* method : {"dpo", "kto", "cpo"}) {
    for (const auto& [name, value] : Expected().at(method).items()) {
      for (const char* kernels : {"LIGER", "BASELINE"}) cases.push_back({method, name, kernels});
    }
  }
  return cases;
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return info.param.method + "_" + info.param.name + "_" + info.param.kernels;
}

void ExpectSteps(const std::vector<std::map<std::string, double>>& history,
                 const nlohmann::json& steps) {
  ASSERT_EQ(history.size(), 10u);
  ASSERT_EQ(steps.size(), 10u);
  for (size_t step = 0; step < steps.size(); ++step) {
    EXPECT_EQ(history[step].size(), steps[step].size()) << "other metrics at step " << step;
    for (const auto& [name, value] : steps[step].items()) {
      const double tolerance = step == 0 ? kTolerance : kCurveTolerance;
      const double scale = std::max(1.0, std::abs(value.get<double>()));
      EXPECT_NEAR(history[step].at(name), value.get<double>(), tolerance * scale)
          << name << " at step " << step;
    }
  }
}

class PreferenceGoldenTest : public testing::TestWithParam<Case> {
 protected:
  const nlohmann::json& expected() const {
    return Expected().at(GetParam().method).at(GetParam().name);
  }

  std::shared_ptr<CausalLM> Model() const {
    return golden::LoadModel(golden::Folder("tiny/gqa_tied_v5"), GetParam().kernels);
  }

  // Through JobSpec's own names, as a job file would have them.
  std::unique_ptr<Objective> MakeCase() const {
    liger::v1::JobSpec spec;
    const nlohmann::json json = {{GetParam().method, expected().at("options")}};
    const auto status = google::protobuf::util::JsonStringToMessage(json.dump(), &spec);
    EXPECT_TRUE(status.ok()) << status.ToString();
    auto objective = MakeObjective(spec);
    if (objective->NeedsReference()) {
      objective->SetReference(
          golden::LoadModel(golden::Folder("preference/reference"), GetParam().kernels));
    }
    return objective;
  }

  std::vector<Batch> Batches() const {
    std::vector<Batch> batches;
    const bool pairs = GetParam().method != "kto";
    for (const auto& rows : Expected().at(pairs ? "dpo_batches" : "kto_batches")) {
      batches.push_back(pairs ? golden::PairBatch(rows) : golden::LabelledBatch(rows));
    }
    return batches;
  }
};

TEST_P(PreferenceGoldenTest, GradientsOfTheFirstStep) {
  const auto model = Model();
  const auto objective = MakeCase();
  golden::WholeStep(*objective, *model, Batches()[0]).loss.backward();
  const auto file = SafetensorsFile::Open(golden::Folder("preference") + "/gradients.safetensors");
  for (const auto& item : model->named_parameters()) {
    const at::Tensor expected =
        file->View(GetParam().method + "." + GetParam().name + "." + item.key());
    EXPECT_LT(golden::RelativeError(item.value().grad(), expected), kTolerance) << item.key();
  }
}

TEST_P(PreferenceGoldenTest, TenSteps) {
  const auto model = Model();
  const auto objective = MakeCase();
  const auto history =
      golden::Train(*objective, *model, Batches(), Expected().at("lr").get<double>());
  ExpectSteps(history, expected().at("steps"));
}

INSTANTIATE_TEST_SUITE_P(Trl, PreferenceGoldenTest, testing::ValuesIn(Cases()), CaseName);

// The load-balancing loss beside a preference loss. The model is its own reference.
TEST(PreferenceRouterTest, TenStepsOfAMixtureOfExperts) {
  const nlohmann::json router = golden::ReadJson(golden::Folder("preference") + "/router.json");
  const std::string folder = golden::Folder("tiny/mixtral_router_v5");
  for (const char* method : {"dpo", "kto"}) {
    for (const char* kernels : {"LIGER", "BASELINE"}) {
      const auto model = golden::LoadModel(folder, kernels);
      std::unique_ptr<Objective> objective;
      std::vector<Batch> batches;
      for (const auto& rows : Expected().at(std::string(method) + "_batches")) {
        batches.push_back(method == std::string("dpo") ? golden::PairBatch(rows)
                                                       : golden::LabelledBatch(rows));
      }
      liger::v1::JobSpec spec;
      if (method == std::string("dpo")) {
        spec.mutable_dpo();
      } else {
        spec.mutable_kto();
      }
      objective = MakeObjective(spec);
      objective->SetReference(golden::LoadModel(folder, kernels));
      const auto history =
          golden::Train(*objective, *model, batches, Expected().at("lr").get<double>());
      ExpectSteps(history, router.at(method));
    }
  }
}

// Over micro-batches the load-balancing loss is their mean, as TRL's.
TEST(PreferenceRouterTest, MicroBatchesGiveTheMean) {
  const auto rows = Expected().at("dpo_batches")[0];
  const auto model = golden::LoadModel(golden::Folder("tiny/mixtral_router_v5"), "LIGER");
  DpoObjective objective({});
  objective.SetReference(model);
  const auto metrics = [&](const std::vector<Batch>& micro_batches) {
    golden::Trainee trainee(objective, *model);
    return trainee.Step(micro_batches, /*learning_rate=*/0, 0);
  };
  const auto part = [&](size_t i) { return golden::PairBatch(nlohmann::json::array({rows[i]})); };
  const StepResult first = metrics({part(0)}), second = metrics({part(1)});
  const StepResult both = metrics({part(0), part(1)});
  EXPECT_GT(std::abs(first.metrics.Means().at("aux_loss") - second.metrics.Means().at("aux_loss")),
            1e-3);
  EXPECT_NEAR(both.loss, (first.loss + second.loss) / 2, 1e-6);
  for (const char* name : {"loss", "aux_loss"}) {
    EXPECT_NEAR(both.metrics.Means().at(name),
                (first.metrics.Means().at(name) + second.metrics.Means().at(name)) / 2, 1e-6);
  }
}

// Micro-batches add up to the step that holds all rows, where a loss is a mean over pairs.
TEST(PreferenceTest, AccumulatedIsTheLargeBatch) {
  const auto rows = Expected().at("dpo_batches")[0];
  const auto parts = {nlohmann::json(rows[0]), nlohmann::json(rows[1])};
  const std::string folder = golden::Folder("tiny/gqa_tied_v5");
  std::vector<std::map<std::string, at::Tensor>> grads;
  for (const bool split : {false, true}) {
    const auto model = golden::LoadModel(folder, "LIGER");
    DpoObjective objective({});
    objective.SetReference(golden::LoadModel(golden::Folder("preference/reference"), "LIGER"));
    StepContext context;
    context.rows = 2;
    if (split) {
      for (const auto& row : parts) {
        objective.Forward(*model, golden::PairBatch(nlohmann::json::array({row})), context)
            .loss.backward();
      }
    } else {
      objective
          .Forward(*model, golden::PairBatch(nlohmann::json::array({rows[0], rows[1]})), context)
          .loss.backward();
    }
    auto& result = grads.emplace_back();
    for (const auto& item : model->named_parameters()) result[item.key()] = item.value().grad();
  }
  for (const auto& [name, expected] : grads[0]) {
    EXPECT_LT(golden::RelativeError(grads[1][name], expected), 5e-6) << name;
  }
}

TEST(PreferenceTest, ReferenceIsAFrozenCopy) {
  const auto model = golden::LoadModel(golden::Folder("tiny/gqa_tied_v5"), "LIGER");
  const auto reference = MakeReference({}, *model);
  const auto copies = reference->named_parameters();
  for (const auto& item : model->named_parameters()) {
    EXPECT_TRUE(copies[item.key()].equal(item.value())) << item.key();
    EXPECT_FALSE(copies[item.key()].requires_grad()) << item.key();
    EXPECT_NE(copies[item.key()].data_ptr(), item.value().data_ptr()) << item.key();
  }
}

}  // namespace
}  // namespace liger::trainer
