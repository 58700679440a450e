// Settings that are allowed and do nothing.
#include "tests/unit/common/spec_testing.h"

namespace liger {
namespace {

using liger::v1::JobSpec;
using testing::ElementsAre;
using testing::IsEmpty;

// Of the spec as given and as resolved.
std::vector<std::string> Warned(const std::string& text) {
  JobSpec spec = Parse(text);
  std::vector<std::string> given, resolved;
  for (const auto& warning : SpecWarnings(spec)) given.push_back(warning.field());
  FillDefaults(&spec);
  for (const auto& warning : SpecWarnings(spec)) resolved.push_back(warning.field());
  EXPECT_EQ(given, resolved) << text;
  return resolved;
}

TEST(SpecTest, WarnsOfDpoOptionsThatNoLossTypeHas) {
  const auto warned = [](const std::string& dpo) {
    return Warned("{model: m, dpo: {" + dpo + "}}");
  };
  EXPECT_THAT(warned("label_smoothing: 0.1, loss_type: [hinge, ipo]"),
              ElementsAre("dpo.label_smoothing"));
  for (const char* type : {"sigmoid", "sigmoid_norm", "robust", "aot", "[exo_pair, hinge]"}) {
    EXPECT_THAT(warned(std::string("label_smoothing: 0.1, loss_type: ") + type), IsEmpty()) << type;
  }
  EXPECT_THAT(warned("label_smoothing: 0.1"), IsEmpty());
  EXPECT_THAT(warned("discopop_tau: 0.1, f_alpha_divergence_coef: 0.3"),
              ElementsAre("dpo.discopop_tau", "dpo.f_alpha_divergence_coef"));
  EXPECT_THAT(warned("discopop_tau: 0.1, loss_type: [sft, discopop], f_divergence_type: "
                     "alpha_divergence, f_alpha_divergence_coef: 0.3"),
              IsEmpty());
  EXPECT_THAT(warned("loss_type: sft, ld_alpha: 0.5, f_divergence_type: js_divergence"),
              ElementsAre("dpo.f_divergence_type", "dpo.ld_alpha"));
}

TEST(SpecTest, WarnsOfSortingASinglePair) {
  const auto spec = [](const char* types, int batch) {
    return "{model: m, dpo: {loss_type: " + std::string(types) +
           "}, training: {per_device_train_batch_size: " + std::to_string(batch) +
           "}, resources: {count: 2}}";
  };
  for (const char* types : {"aot", "aot_unpaired", "[sigmoid, aot]"}) {
    EXPECT_THAT(Warned(spec(types, 1)), ElementsAre("dpo.loss_type")) << types;
    EXPECT_THAT(Warned(spec(types, 2)), IsEmpty()) << types;
  }
  EXPECT_THAT(Warned(spec("hinge", 1)), IsEmpty());
  EXPECT_THAT(SpecWarnings(Parse(spec("aot", 1)))[0].message(),
              testing::HasSubstr("dpo.loss_type aot sorts the pairs of a micro-batch"));
}

TEST(SpecTest, WarnsOfASchedulesPeakThatNoStepReaches) {
  const auto warned = [](const std::string& training) {
    return Warned("{model: m, sft: , training: {" + training + "}}");
  };
  EXPECT_THAT(warned("max_steps: 10, warmup_steps: 10"), ElementsAre("training.warmup_steps"));
  EXPECT_THAT(warned("max_steps: 10, warmup_steps: 500"), ElementsAre("training.warmup_steps"));
  EXPECT_THAT(warned("max_steps: 10, warmup_steps: 9"), IsEmpty());
  EXPECT_THAT(warned("max_steps: 1, warmup_steps: 0.5"), IsEmpty());
  EXPECT_THAT(warned("warmup_steps: 500"), IsEmpty());
  const std::string wsd =
      "max_steps: 10, lr_scheduler_type: warmup_stable_decay, warmup_steps: 3, "
      "lr_scheduler_kwargs: {num_decay_steps: ";
  EXPECT_THAT(warned(wsd + "7}"), IsEmpty());
  EXPECT_THAT(warned(wsd + "8}"), ElementsAre("training.lr_scheduler_kwargs.num_decay_steps"));
  // A stable part of its own reaches the rate, but may leave no steps for the decay.
  EXPECT_THAT(warned(wsd + "3, num_stable_steps: 4}"), IsEmpty());
  EXPECT_THAT(warned(wsd + "8, num_stable_steps: 2}"),
              ElementsAre("training.lr_scheduler_kwargs.num_stable_steps"));
  EXPECT_THAT(warned(wsd + "3, num_stable_steps: 40}"),
              ElementsAre("training.lr_scheduler_kwargs.num_stable_steps"));
  // Shares of the steps are rounded up, as the schedule rounds them.
  const std::string half =
      "max_steps: 9, lr_scheduler_type: warmup_stable_decay, warmup_ratio: 0.5, "
      "lr_scheduler_kwargs: {num_decay_steps: ";
  EXPECT_THAT(warned(half + "4}"), IsEmpty());
  EXPECT_THAT(warned(half + "5}"), ElementsAre("training.lr_scheduler_kwargs.num_decay_steps"));
}

TEST(SpecTest, WarnsOfWhatIsDueAfterTheEnd) {
  const std::string begin = "{model: m, sft: , dataset: {eval_fraction: 0.1}, training: {";
  EXPECT_THAT(Warned(begin + "max_steps: 9, save_steps: 9, eval_steps: 9}}"), IsEmpty());
  EXPECT_THAT(Warned(begin + "max_steps: 9, save_steps: 10, eval_steps: 10}}"),
              ElementsAre("training.save_steps", "training.eval_steps"));
  EXPECT_THAT(Warned(begin + "save_total_limit: 3}}"), ElementsAre("training.save_total_limit"));
  EXPECT_THAT(Warned(begin + "save_total_limit: 3, save_steps: 1}}"), IsEmpty());
  // Where epochs say how long the job is, of as many steps as they come to.
  const JobSpec epochs = Parse(begin + "save_steps: 10, warmup_steps: 10}}");
  EXPECT_THAT(Warned(begin + "save_steps: 10, warmup_steps: 10}}"), IsEmpty());
  EXPECT_TRUE(LengthWarnings(epochs, 11).empty());
  const auto warnings = LengthWarnings(epochs, 9);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_EQ(warnings[0].message(),
            "training.learning_rate is never reached: the warm-up has 10 steps and the job 9");
  EXPECT_EQ(warnings[1].message(), "training.save_steps has no effect: the job has 9 steps");
}

TEST(SpecTest, WarnsOfOptimizerSettingsWithoutEffect) {
  const auto warned = [](const std::string& training) {
    return Warned("{model: m, sft: , training: {" + training + "}}");
  };
  const std::string adam = ", adam_beta1: 0.8, adam_beta2: 0.9, adam_epsilon: 1e-6";
  const auto all =
      ElementsAre("training.adam_beta1", "training.adam_beta2", "training.adam_epsilon");
  EXPECT_THAT(warned("optim: sgd" + adam), all);
  EXPECT_THAT(warned("optim: adafactor" + adam), all);
  EXPECT_THAT(warned("optim: lion" + adam), ElementsAre("training.adam_epsilon"));
  EXPECT_THAT(warned("optim: lion_32bit" + adam), ElementsAre("training.adam_epsilon"));
  EXPECT_THAT(warned("optim: adamw_8bit" + adam), IsEmpty());
  EXPECT_THAT(warned("optim: adamw_torch" + adam), IsEmpty());
  EXPECT_THAT(warned("sgd_momentum: 0.9"), ElementsAre("training.sgd_momentum"));
  EXPECT_THAT(warned("optim: sgd, sgd_momentum: 0.9, adam_epsilon: 1e-8"), IsEmpty());
}

TEST(SpecTest, WarnsOfSettingsOfTheBestModelWithoutEffect) {
  const std::string begin =
      "{model: m, sft: , dataset: {eval_fraction: 0.1}, training: {eval_steps: 5, ";
  EXPECT_THAT(Warned(begin + "metric_for_best_model: entropy, early_stopping_threshold: 0.1}}"),
              ElementsAre("training.metric_for_best_model", "training.early_stopping_threshold"));
  EXPECT_THAT(Warned(begin + "metric_for_best_model: entropy, early_stopping_threshold: 0.1, "
                             "early_stopping_patience: 2}}"),
              IsEmpty());
}

TEST(SpecTest, WarnsOfEvaluationSettingsWithoutASet) {
  const std::string training = "training: {eval_steps: 5, eval_on_start: true}";
  EXPECT_THAT(
      Warned("{model: m, sft: , " + training + ", dataset: {max_eval_samples: 9}}"),
      ElementsAre("training.eval_steps", "training.eval_on_start", "dataset.max_eval_samples"));
  EXPECT_THAT(Warned("{model: m, sft: , " + training + ", dataset: {eval_fraction: 0.1}}"),
              IsEmpty());
  EXPECT_THAT(Warned("{model: m, sft: , " + training + ", dataset: {eval_uri: e.jsonl}}"),
              IsEmpty());
  EXPECT_THAT(Warned("{model: m, sft: }"), IsEmpty());
}

TEST(SpecTest, WarnsOfDataSettingsWithoutEffect) {
  EXPECT_THAT(Warned("{model: m, sft: {packing_strategy: wrapped}}"),
              ElementsAre("sft.packing_strategy"));
  EXPECT_THAT(Warned("{model: m, sft: {packing: true}, training: {group_by_length: true}}"),
              ElementsAre("training.group_by_length"));
  EXPECT_THAT(Warned("{model: m, orpo: , training: {group_by_length: true}}"), IsEmpty());
}

TEST(SpecTest, WarnsOfKernelSwitchesThatTheMethodDoesNotUse) {
  const auto warned = [](const std::string& method, const std::string& kernels) {
    return Warned("{model: m, " + method + ": , kernels: {" + kernels + "}}");
  };
  EXPECT_THAT(warned("sft", "fused_linear_logprob: true"),
              ElementsAre("kernels.fused_linear_logprob"));
  EXPECT_THAT(warned("sft", "cross_entropy: false"), ElementsAre("kernels.cross_entropy"));
  EXPECT_THAT(warned("sft", "cross_entropy: true, fused_linear_cross_entropy: false"), IsEmpty());
  EXPECT_THAT(warned("sft", "mode: custom, cross_entropy: true"), IsEmpty());
  EXPECT_THAT(warned("orpo", "fused_linear_logprob: false, rope: false"), IsEmpty());
  EXPECT_THAT(warned("orpo", "cross_entropy: true, fused_linear_cross_entropy: true"),
              ElementsAre("kernels.cross_entropy", "kernels.fused_linear_cross_entropy"));
}

TEST(SpecTest, WarnsOfMethodOptionsWithoutEffect) {
  EXPECT_THAT(Warned("{model: m, cpo: {loss_type: ipo, label_smoothing: 0.1}}"),
              ElementsAre("cpo.label_smoothing"));
  EXPECT_THAT(Warned("{model: m, cpo: {simpo_gamma: 1}}"), ElementsAre("cpo.simpo_gamma"));
  EXPECT_THAT(Warned("{model: m, cpo: {loss_type: simpo, simpo_gamma: 1}}"), IsEmpty());
  EXPECT_THAT(Warned("{model: m, dpo: {ref_model_sync_steps: 5}}"),
              ElementsAre("dpo.ref_model_sync_steps"));
  EXPECT_THAT(Warned("{model: m, dpo: {sync_ref_model: true, ref_model_sync_steps: 5}}"),
              IsEmpty());
}

}  // namespace
}  // namespace liger
