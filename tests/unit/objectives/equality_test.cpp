// What must not change a step: whether prefixes are shared, how it is cut into micro-batches,
// whether the reference is asked before or in it, packing, and how the head's logits come and go.
// For every method, whole and with an adapter: the loss within 1e-6 and all gradients within 5e-6
// (relative L2), in fp32.
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "tests/unit/models/golden.h"
#include "tests/unit/objectives/random_rows.h"
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

struct Case {
  const char* name;
  const char* spec;  // JSON of a JobSpec's method
  RowKind kind;
  bool lora = false;
};

// How a step is computed.
struct Way {
  bool shared_prefixes = true;
  bool all_logits = false;       // at once, and their gradient by autograd
  int64_t most_logits_rows = 0;  // StepContext's
  bool head_buffer = false;      // StepContext::head_gradient
  std::string model = "tiny/gqa_tied_v5";
};

std::shared_ptr<CausalLM> Model(const std::string& folder, bool lora, const Way& way = {}) {
  liger::v1::KernelSpec kernels = golden::Kernels("LIGER");
  kernels.set_shared_prefixes(way.shared_prefixes);
  kernels.set_fused_linear_logprob(!way.all_logits);
  auto model = BuildModel(ModelConfig::FromFolder(golden::Folder(folder)), kernels);
  LoadWeights(*model, golden::Folder(folder));
  if (lora) {
    LoraSetup::Find({}, golden::Folder("lora/plain") + "/adapter", *model)
        .Attach(*model, at::kFloat, /*seed=*/0);
  }
  model->train();
  return model;
}

struct LossAndGradients {
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
  std::shared_ptr<CausalLM> Reference(const Way& way = {}) const {
    return Model("preference/reference", false, way);
  }

  LossAndGradients Run(Objective& objective, const std::vector<Batch>& batches,
                       const Way& way = {}) const {
    const auto model = Model(way.model, GetParam().lora, way);
    if (objective.NeedsReference() && !batches[0].reference_logp_A.defined()) {
      objective.SetReference(Reference(way));
    }
    StepContext context;
    context.most_logits_rows = way.most_logits_rows;
    const at::Tensor head = model->HeadWeight();
    std::optional<GradientSum> head_gradient;
    if (way.head_buffer && head.requires_grad()) {
      head_gradient = {at::full_like(head, std::nan("")).detach(), /*is_new=*/true};
      head.mutable_grad() = head_gradient->sum;
      context.head_gradient = &*head_gradient;
    }
    context.micro_batches = std::ssize(batches);
    for (const Batch& batch : batches) {
      context.loss_tokens += objective.Count(batch).loss_tokens;
      context.rows += objective.Count(batch).rows;
    }
    LossAndGradients step;
    for (const Batch& batch : batches) {
      const LossOutput out = objective.Forward(*model, batch, context);
      if (head_gradient) head_gradient->Settled();
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

  static void ExpectEqual(const LossAndGradients& actual, const LossAndGradients& expected) {
    EXPECT_NEAR(actual.loss, expected.loss, kLoss * std::max(1.0, std::abs(expected.loss)));
    const double error = golden::RelativeError(actual.gradients, expected.gradients);
    EXPECT_LT(error, kGradients);
    EXPECT_GT(at::linalg_vector_norm(expected.gradients).item<double>(), 1e-3) << "no gradient";
    RecordProperty("gradients", std::to_string(error * 1e9) + "e-9");
  }

  // A system prompt, a prompt, one or two answers.
  const ExampleSet rows_ = MakeRandomRows(GetParam().kind, {.common_tokens = 9});
};

TEST_P(EqualityTest, SharedPrefixesAreTheUnshared) {
  const auto objective = Make();
  const std::vector<Batch> whole = EvalBatches(rows_, rows_.num_rows());
  const auto shared = Model("tiny/gqa_tied_v5", false);
  ASSERT_LT(ToModelInput(whole[0], *shared).input_ids_U.numel(), whole[0].num_tokens * 9 / 10)
      << "nothing is shared";
  ExpectEqual(Run(*objective, whole), Run(*objective, whole, {.shared_prefixes = false}));
}

class AccumulationTest : public EqualityTest {};

TEST_P(AccumulationTest, MicroBatchesAreTheLargeBatch) {
  const auto objective = Make();
  const LossAndGradients whole = Run(*objective, EvalBatches(rows_, rows_.num_rows()));
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

class HeadTest : public EqualityTest {};

// Of two micro-batches, with rows of logits for all, for some pairs at once, and for less than one.
TEST_P(HeadTest, LossAndGradientsByGroupsAreThoseOfAllLogits) {
  const auto objective = Make();
  const std::vector<Batch> batches = EvalBatches(rows_, 4);
  for (const std::string model : {"tiny/gqa_tied_v5", "tiny/mha_untied_hub", "tiny/gemma2_v5"}) {
    if (GetParam().lora && model != "tiny/gqa_tied_v5") continue;  // another one's adapter
    const LossAndGradients expected =
        Run(*objective, batches, {.all_logits = true, .model = model});
    for (const int64_t rows : {0, 45, 7}) {
      SCOPED_TRACE(model + ", rows " + std::to_string(rows));
      ExpectEqual(Run(*objective, batches,
                      {.most_logits_rows = rows, .head_buffer = rows != 7, .model = model}),
                  expected);
    }
  }
}

// The methods for which `applies`, without and with an adapter.
std::vector<Case> WithAdapters(std::vector<Case> all, bool (*applies)(const Case&)) {
  std::vector<Case> cases;
  for (Case& one : all) {
    if (!applies(one)) continue;
    cases.push_back(one);
    one.lora = true;
    cases.push_back(one);
  }
  return cases;
}

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
      {"dpo_sft_wpo",
       R"({"dpo": {"lossType": ["sigmoid", "sft"], "labelSmoothing": 0.2, "useWeighting": true}})",
       RowKind::kPair},
      {"kto_kl", R"({"kto": {}})", RowKind::kLabelled},
      {"kto_apo", R"({"kto": {"lossType": "apo_zero_unpaired", "undesirableWeight": 0.7}})",
       RowKind::kLabelled},
  };
  return WithAdapters(std::move(all), applies);
}

// What Cases has not of the other loss types.
std::vector<Case> LossTypes() {
  std::vector<Case> cases = {
      {"cpo_hinge", R"({"cpo": {"lossType": "hinge"}})", RowKind::kPair},
      {"cpo_ipo", R"({"cpo": {"lossType": "ipo", "labelSmoothing": 0.1}})", RowKind::kPair},
      {"hinge", R"({"dpo": {"lossType": ["hinge"]}})", RowKind::kPair},
      {"robust", R"({"dpo": {"lossType": ["robust"], "labelSmoothing": 0.1}})", RowKind::kPair},
      {"exo_pair", R"({"dpo": {"lossType": ["exo_pair"], "labelSmoothing": 0.1}})", RowKind::kPair},
      {"nca_pair", R"({"dpo": {"lossType": ["nca_pair"]}})", RowKind::kPair},
      {"bco_pair", R"({"dpo": {"lossType": ["bco_pair"]}})", RowKind::kPair},
      {"sppo_hard", R"({"dpo": {"lossType": ["sppo_hard"]}})", RowKind::kPair},
      {"aot", R"({"dpo": {"lossType": ["aot"]}})", RowKind::kPair},
      {"aot_unpaired", R"({"dpo": {"lossType": ["aot_unpaired"]}})", RowKind::kPair},
      {"apo_zero", R"({"dpo": {"lossType": ["apo_zero"]}})", RowKind::kPair},
      {"apo_down", R"({"dpo": {"lossType": ["apo_down"]}})", RowKind::kPair},
      {"discopop", R"({"dpo": {"lossType": ["discopop"]}})", RowKind::kPair},
      {"sigmoid_norm", R"({"dpo": {"lossType": ["sigmoid_norm"]}})", RowKind::kPair},
      {"js_divergence", R"({"dpo": {"fDivergenceType": "js_divergence"}})", RowKind::kPair},
  };
  return WithAdapters(std::move(cases), [](const Case&) { return true; });
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.name) + (info.param.lora ? "_lora" : "");
}

INSTANTIATE_TEST_SUITE_P(Methods, EqualityTest,
                         testing::ValuesIn(Cases([](const Case&) { return true; })), CaseName);
INSTANTIATE_TEST_SUITE_P(Methods, HeadTest, testing::ValuesIn(Cases([](const Case& c) {
                           return c.kind != RowKind::kSequence;
                         })),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(LossTypes, HeadTest, testing::ValuesIn(LossTypes()), CaseName);
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
