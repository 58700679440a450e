// Precomputed log-probabilities of the reference, and a reference that moves.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/unit/models/golden.h"
#include "worker/trainer/data/sampler.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/loop/precomputed_reference.h"
#include "worker/trainer/objectives/dpo.h"
#include "worker/trainer/objectives/kto.h"
#include "worker/trainer/objectives/precompute.h"

namespace liger::trainer {
namespace {

const nlohmann::json& PreferenceGolden() {
  static const nlohmann::json expected =
      golden::ReadJson(golden::Folder("preference") + "/expected.json");
  return expected;
}

std::shared_ptr<CausalLM> Model() {
  return golden::LoadModel(golden::Folder("tiny/gqa_tied_v5"), "LIGER");
}
std::shared_ptr<CausalLM> Reference() {
  return golden::LoadModel(golden::Folder("preference/reference"), "LIGER");
}

// The fixture's rows as one set, of which an iterator deals out shuffled batches.
ExampleSet Rows(RowKind kind) {
  ExampleSet set;
  set.kind = kind;
  const auto add = [&](const nlohmann::json& sequence) {
    set.sequences.push_back({sequence.at("input_ids").get<std::vector<int32_t>>(),
                             sequence.at("labels").get<std::vector<int32_t>>()});
  };
  const bool pairs = kind == RowKind::kPair;
  for (const auto& batch : PreferenceGolden().at(pairs ? "dpo_batches" : "kto_batches")) {
    for (const auto& row : batch) {
      if (pairs) {
        add(row.at("chosen"));
        add(row.at("rejected"));
      } else {
        add(row);
        set.desirable.push_back(row.at("label").get<bool>());
      }
    }
  }
  return set;
}

struct FirstStep {
  double loss;
  std::map<std::string, double> metrics;
  at::Tensor embedding_grad;
};

FirstStep RunFirstStep(Objective& objective, const Batch& batch) {
  const auto model = Model();
  const LossOutput out = golden::WholeStep(objective, *model, batch);
  out.loss.backward();
  return {out.loss.item<double>(), out.metrics.Means(), model->EmbeddingWeight().grad()};
}

// Two epochs of shuffled batches, in another order than the reference was asked in: every batch's
// loss, metrics and gradient are those of the live reference.
void ExpectCachedIsLive(Objective& live, Objective& cached, RowKind kind) {
  const ExampleSet rows = Rows(kind);
  const BatchIterator start(rows, {.rows_per_batch = 3, .data_seed = 5});
  live.SetReference(Reference());
  ReferenceLogpCache cache;
  {
    const auto reference = Reference();
    const at::NoGradGuard no_grad;
    BatchIterator batches = start;
    for (int step = 0; step < 28; ++step) {
      for (const Batch& batch : batches.NextStep(1)) cache.Compute(cached, *reference, batch);
    }
  }
  BatchIterator batches = start;
  for (int step = 0; step < 28; ++step) {
    Batch batch = batches.NextStep(1)[0];
    const FirstStep expected = RunFirstStep(live, batch);
    cache.Attach(&batch);
    const FirstStep actual = RunFirstStep(cached, batch);
    EXPECT_NEAR(actual.loss, expected.loss, 1e-6);
    for (const auto& [name, value] : expected.metrics) {
      EXPECT_NEAR(actual.metrics.at(name), value, 1e-6 * std::max(1.0, std::abs(value))) << name;
    }
    EXPECT_LT(golden::RelativeError(actual.embedding_grad, expected.embedding_grad), 5e-6);
  }
}

TEST(PrecomputeTest, CachedDpoIsLiveDpo) {
  for (const std::optional<double> ld_alpha : {std::optional<double>(), std::optional(0.4)}) {
    DpoOptions options;
    options.ld_alpha = ld_alpha;
    DpoObjective live(options), cached(options);
    ExpectCachedIsLive(live, cached, RowKind::kPair);
  }
}

TEST(PrecomputeTest, CachedKtoIsLiveKto) {
  for (const bool estimate_kl : {true, false}) {
    KtoObjective live({.estimate_kl = estimate_kl}), cached({.estimate_kl = estimate_kl});
    ExpectCachedIsLive(live, cached, RowKind::kLabelled);
  }
}

TEST(PrecomputeTest, WithoutCacheOrReferenceNothingIsGuessed) {
  DpoObjective objective({});
  const Batch batch = golden::PairBatch(PreferenceGolden().at("dpo_batches")[0]);
  const auto model = Model();
  EXPECT_THROW(golden::WholeStep(objective, *model, batch), c10::Error);
}

// Counts what the reference is asked.
class CountedKto : public KtoObjective {
 public:
  using KtoObjective::KtoObjective;
  at::Tensor ReferenceLogps(CausalLM& reference, const Batch& batch) const override {
    ++asked;
    return KtoObjective::ReferenceLogps(reference, batch);
  }
  mutable int asked = 0;
};

// Mismatched answers are asked about when their epoch begins, and own ones once.
TEST(PrecomputeTest, AnEpochAtATime) {
  const ExampleSet rows = Rows(RowKind::kLabelled);
  const int epoch = static_cast<int>((rows.num_rows() + 2) / 3), epochs = 3;
  for (const bool estimate_kl : {true, false}) {
    CountedKto objective({.estimate_kl = estimate_kl});
    StopFlag stop;
    BatchIterator batches(rows, {.rows_per_batch = 3, .data_seed = 5});
    PrecomputedReference precomputed(
        objective, Reference(),
        {.num_rows = rows.num_rows(), .start = batches, .max_steps = epochs * epoch}, stop);
    std::vector<Batch> evaluation = EvalBatches(rows, 7);
    precomputed.AttachToEvaluation(evaluation);
    EXPECT_TRUE(evaluation.back().reference_logp_A.defined());
    const int per_batch = estimate_kl ? 2 : 1;
    EXPECT_EQ(objective.asked, per_batch * std::ssize(evaluation));
    objective.asked = 0;
    for (int step = 1; step <= epochs * epoch; ++step) {
      std::vector<Batch> micro_batches = batches.NextStep(1);
      precomputed.AttachToStep(micro_batches, batches, step);
      const int begun = (step + epoch - 1) / epoch;
      EXPECT_EQ(objective.asked, epoch + (estimate_kl ? begun * epoch : 0)) << "step " << step;
      EXPECT_EQ(precomputed.holds_reference(), estimate_kl && begun < epochs) << "step " << step;
    }
  }
}

TEST(SyncReferenceTest, MovesByTheMixEveryFewSteps) {
  liger::v1::DpoMethod spec;
  spec.set_sync_ref_model(true);
  spec.set_ref_model_mixup_alpha(0.25);
  spec.set_ref_model_sync_steps(2);
  DpoObjective objective(DpoOptions::FromSpec(spec));
  const auto model = Model(), reference = Reference(), before = Reference();
  objective.SetReference(reference);
  const auto largest_error = [&](double alpha) {
    double largest = 0;
    for (const auto& item : reference->named_parameters()) {
      const at::Tensor from = before->named_parameters()[item.key()].detach();
      const at::Tensor to = model->named_parameters()[item.key()].detach();
      const at::Tensor expected = (1 - alpha) * from.to(at::kDouble) + alpha * to.to(at::kDouble);
      largest = std::max(largest, golden::RelativeError(item.value().detach(), expected));
    }
    return largest;
  };
  objective.AfterStep(*model, 1);
  EXPECT_EQ(largest_error(0), 0);
  objective.AfterStep(*model, 2);
  EXPECT_LT(largest_error(0.25), 1e-6);
  objective.AfterStep(*model, 3);
  EXPECT_LT(largest_error(0.25), 1e-6);
  objective.AfterStep(*model, 4);
  EXPECT_LT(largest_error(1 - 0.75 * 0.75), 1e-6);

  DpoObjective still({});
  still.SetReference(Reference());
  EXPECT_NO_THROW(still.AfterStep(*model, 512));
}

}  // namespace
}  // namespace liger::trainer
