// What must not change a step: whether prefixes are shared, how it is cut into micro-batches,
// whether the reference is asked before or in it, and packing. For every method, whole and with
// an adapter: the loss within 1e-6 and all gradients within 5e-6 (relative L2), in fp32.
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/models/golden.h"
#include "worker/trainer/data/packing.h"
#include "worker/trainer/data/sampler.h"
#include "worker/trainer/loop/lora_setup.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/precompute.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

constexpr double kLoss = 1e-6, kGradients = 5e-6;
constexpr int kVocabulary = 90;

struct Case {
  const char* name;
  const char* spec;  // JSON of a JobSpec's method
  RowKind kind;
  bool lora = false;
};

// Rows of unequal lengths: a system prompt, a prompt, one or two answers.
ExampleSet Rows(RowKind kind) {
  std::mt19937 draw(17);
  const auto append = [&](int n, Example* example, bool trained) {
    for (int i = 0; i < n; ++i) {
      example->input_ids.push_back(static_cast<int32_t>(1 + draw() % kVocabulary));
      example->labels.push_back(trained ? example->input_ids.back() : kIgnoredLabel);
    }
  };
  ExampleSet set;
  set.kind = kind;
  Example system;
  append(9, &system, false);
  for (int row = 0; row < 8; ++row) {
    Example prompt = system;
    append(static_cast<int>(2 + draw() % 12), &prompt, false);
    for (int side = 0; side < set.sequences_per_row(); ++side) {
      append(static_cast<int>(1 + draw() % 20), &set.sequences.emplace_back(prompt), true);
    }
    if (kind == RowKind::kLabelled) set.desirable.push_back(row % 3 != 0);
  }
  return set;
}

std::shared_ptr<CausalLM> Model(const std::string& folder, bool lora, bool shared = true) {
  liger::v1::KernelSpec kernels = golden::Kernels("LIGER");
  kernels.set_shared_prefixes(shared);
  auto model = BuildModel(ModelConfig::FromFolder(golden::Folder(folder)), kernels);
  LoadWeights(*model, golden::Folder(folder));
  if (lora) {
    LoraSetup::Find({}, golden::Folder("lora/plain") + "/adapter", *model)
        .Attach(*model, at::kFloat, /*seed=*/0);
  }
  model->train();
  return model;
}

struct Step {
  double loss = 0;
  at::Tensor gradients;
};

class EqualityTest : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Objective> Make() const {
    liger::v1::JobSpec spec;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(GetParam().spec, &spec).ok());
    return MakeObjective(spec);
  }
  std::shared_ptr<CausalLM> Reference(bool shared = true) const {
    return Model("preference/reference", false, shared);
  }

  Step Run(Objective& objective, const std::vector<Batch>& batches, bool shared = true) const {
    const auto model = Model("tiny/gqa_tied_v5", GetParam().lora, shared);
    if (objective.NeedsReference() && !batches[0].reference_logp_A.defined()) {
      objective.SetReference(Reference(shared));
    }
    StepContext context;
    context.micro_batches = std::ssize(batches);
    for (const Batch& batch : batches) {
      context.loss_tokens += objective.Count(batch).loss_tokens;
      context.rows += objective.Count(batch).rows;
    }
    Step step;
    for (const Batch& batch : batches) {
      const LossOutput out = objective.Forward(*model, batch, context);
      out.loss.backward();
      step.loss += out.loss.item<double>();
    }
    std::vector<at::Tensor> gradients;
    for (const auto& parameter : model->parameters()) {
      if (parameter.grad().defined()) gradients.push_back(parameter.grad().flatten());
    }
    step.gradients = at::cat(gradients);
    return step;
  }

  static void ExpectEqual(const Step& actual, const Step& expected) {
    EXPECT_NEAR(actual.loss, expected.loss, kLoss);
    const double error = golden::RelativeError(actual.gradients, expected.gradients);
    EXPECT_LT(error, kGradients);
    EXPECT_GT(at::linalg_vector_norm(expected.gradients).item<double>(), 1e-3) << "no gradient";
    RecordProperty("gradients", std::to_string(error * 1e9) + "e-9");
  }

  const ExampleSet rows_ = Rows(GetParam().kind);
};

TEST_P(EqualityTest, SharedPrefixesAreTheUnshared) {
  const auto objective = Make();
  const std::vector<Batch> whole = EvalBatches(rows_, rows_.num_rows());
  const auto shared = Model("tiny/gqa_tied_v5", false);
  ASSERT_LT(ToModelInput(whole[0], *shared).input_ids_U.numel(), whole[0].num_tokens * 9 / 10)
      << "nothing is shared";
  ExpectEqual(Run(*objective, whole, true), Run(*objective, whole, false));
}

class AccumulationTest : public EqualityTest {};

TEST_P(AccumulationTest, MicroBatchesAreTheLargeBatch) {
  const auto objective = Make();
  const Step whole = Run(*objective, EvalBatches(rows_, rows_.num_rows()));
  for (const int64_t rows : {1, 3}) {  // 3: the last one is smaller
    ExpectEqual(Run(*objective, EvalBatches(rows_, rows)), whole);
  }
}

class CachedReferenceTest : public EqualityTest {};

TEST_P(CachedReferenceTest, IsTheLiveOne) {
  const auto live = Make(), cached = Make();
  const std::vector<Batch> batches = EvalBatches(rows_, 4);
  std::vector<Batch> known = batches;
  ReferenceLogpCache cache;
  {
    const auto reference = Reference();
    const at::NoGradGuard no_grad;
    for (const Batch& batch : EvalBatches(rows_, 4)) cache.Compute(*cached, *reference, batch);
  }
  for (Batch& batch : known) cache.Attach(&batch);
  ExpectEqual(Run(*cached, known), Run(*live, batches));
}

class PackedTest : public EqualityTest {};

TEST_P(PackedTest, IsUnpacked) {
  const auto objective = Make();
  ExampleSet packed = rows_;
  PackRows(PackingStrategy::kBfd, 80, &packed);
  ASSERT_LT(packed.num_rows(), rows_.num_rows());
  ExpectEqual(Run(*objective, EvalBatches(packed, 2)), Run(*objective, EvalBatches(rows_, 1)));
}

// The methods for which `applies`, without and with an adapter.
std::vector<Case> Cases(bool (*applies)(const Case&)) {
  std::vector<Case> all = {
      {"sft", R"({"sft": {}})", RowKind::kSequence},
      {"orpo", R"({"orpo": {"beta": 0.2}})", RowKind::kPair},
      {"cpo", R"({"cpo": {}})", RowKind::kPair},
      {"simpo", R"({"cpo": {"lossType": "simpo", "beta": 2, "cpoAlpha": 0.5}})", RowKind::kPair},
      {"dpo", R"({"dpo": {}})", RowKind::kPair},
      {"dpo_mix",
       R"({"dpo": {"lossType": ["sigmoid", "sft", "ipo"], "lossWeights": [1, 0.5, 0.1]}})",
       RowKind::kPair},
      {"dpo_ld_wpo", R"({"dpo": {"ldAlpha": 0.4, "useWeighting": true}})", RowKind::kPair},
      {"kto_kl", R"({"kto": {}})", RowKind::kLabelled},
      {"kto_apo", R"({"kto": {"lossType": "apo_zero_unpaired", "undesirableWeight": 0.7}})",
       RowKind::kLabelled},
  };
  std::vector<Case> cases;
  for (Case& one : all) {
    if (!applies(one)) continue;
    cases.push_back(one);
    one.lora = true;
    cases.push_back(one);
  }
  return cases;
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.name) + (info.param.lora ? "_lora" : "");
}

INSTANTIATE_TEST_SUITE_P(Methods, EqualityTest,
                         testing::ValuesIn(Cases([](const Case&) { return true; })), CaseName);
// KTO's KL term is of the micro-batch by definition; TRL's, too.
INSTANTIATE_TEST_SUITE_P(Methods, AccumulationTest, testing::ValuesIn(Cases([](const Case& c) {
                           return std::string_view(c.name) != "kto_kl";
                         })),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Methods, CachedReferenceTest, testing::ValuesIn(Cases([](const Case& c) {
                           return std::string_view(c.spec).find("dpo\": {") == 2 ||
                                  c.kind == RowKind::kLabelled;
                         })),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Methods, PackedTest, testing::ValuesIn(Cases([](const Case& c) {
                           return c.kind == RowKind::kSequence;
                         })),
                         CaseName);

}  // namespace
}  // namespace liger::trainer
