// Each method's own options, and an adapter's.
#include "common/spec/kto_weights.h"
#include "tests/unit/common/spec_testing.h"

namespace liger {
namespace {

using liger::v1::JobSpec;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(SpecTest, DpoAndKtoAreFilledAndChecked) {
  JobSpec dpo = Parse("{model: m, dpo: {loss_type: [exo_pair, sft]}}");
  EXPECT_THAT(ValidateSpec(dpo), IsEmpty());
  FillDefaults(&dpo);
  EXPECT_EQ(dpo.dpo().beta(), 0.1);
  EXPECT_EQ(dpo.dpo().label_smoothing(), 1e-3);
  EXPECT_EQ(dpo.dpo().loss_weights_size(), 2);
  EXPECT_EQ(dpo.dpo().f_divergence_type(), "reverse_kl");
  EXPECT_THAT(ValidateSpec(dpo), IsEmpty());
  // One value is a list of one.
  EXPECT_EQ(Parse("{model: m, dpo: {loss_type: ipo}}").dpo().loss_type(0), "ipo");

  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: sigmoidal}}"), ElementsAre("dpo.loss_type"));
  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: [ipo, sft], loss_weights: [1]}}"),
              ElementsAre("dpo.loss_weights"));
  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: [ipo, sft], loss_weights: [1, -1]}}"),
              ElementsAre("dpo.loss_weights"));
  for (const char* weights : {"[0]", "[.nan]", "[-1]", "[.inf]"}) {
    EXPECT_THAT(Fields(std::string("{model: m, dpo: {loss_weights: ") + weights + "}}"),
                ElementsAre("dpo.loss_weights"))
        << weights;
  }
  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: [ipo, sft], loss_weights: [0, 0]}}"),
              ElementsAre("dpo.loss_weights"));
  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: [ipo, sft], loss_weights: [0, 1]}}"), IsEmpty());
  EXPECT_THAT(Fields("{model: m, dpo: {f_alpha_divergence_coef: nan}}"),
              ElementsAre("dpo.f_alpha_divergence_coef"));
  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: aot, use_weighting: true}}"),
              ElementsAre("dpo.use_weighting"));
  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: apo_zero, f_divergence_type: forward_kl}}"),
              ElementsAre("dpo.f_divergence_type"));
  EXPECT_THAT(Fields("{model: m, dpo: {f_divergence_type: kl}}"),
              ElementsAre("dpo.f_divergence_type"));
  EXPECT_THAT(Fields("{model: m, dpo: {loss_type: exo_pair, label_smoothing: 0}}"),
              ElementsAre("dpo.label_smoothing"));
  EXPECT_THAT(Fields("{model: m, dpo: {label_smoothing: 0.5, beta: 0}}"),
              testing::UnorderedElementsAre("dpo.label_smoothing", "dpo.beta"));
  EXPECT_THAT(Fields("{model: m, kto: {loss_type: bco}}"), ElementsAre("kto.loss_type"));
  EXPECT_THAT(Fields("{model: m, kto: , training: {per_device_train_batch_size: 1}}"),
              ElementsAre("training.per_device_train_batch_size"));
  EXPECT_THAT(Fields("{model: m, kto: {loss_type: apo_zero_unpaired}, "
                     "training: {per_device_train_batch_size: 1}}"),
              IsEmpty());
}

// The bounds are those of TRL 1.16's warning for the same numbers, which rounds 4/3 to 1.33.
TEST(KtoWeights, ThatDoNotMakeUpForTheNumbersAreToldWithBetterOnes) {
  const auto advice = [](const char* kto, int64_t wanted, int64_t unwanted) {
    return KtoWeightAdvice(Parse(std::string("{model: m, kto: ") + kto + "}").kto(), wanted,
                           unwanted);
  };
  EXPECT_THAT(advice("{}", 300, 100),
              testing::AllOf(testing::HasSubstr("300 are wanted and 100 are not"),
                             testing::HasSubstr("desirable_weight to 0.333 to 0.444, or "),
                             testing::HasSubstr("undesirable_weight to 2.25 to 3")));
  EXPECT_THAT(advice("{}", 100, 300), testing::HasSubstr("desirable_weight to 3 to 4"));
  EXPECT_EQ(advice("{desirable_weight: 0.4}", 300, 100), "");
  EXPECT_EQ(advice("{desirable_weight: 0.333}", 300, 100), "");
  EXPECT_EQ(advice("{undesirable_weight: 2.5}", 300, 100), "");
  EXPECT_NE(advice("{undesirable_weight: 2}", 300, 100), "");
  EXPECT_EQ(advice("{}", 4, 3), "");
  EXPECT_NE(advice("{}", 3, 4), "");
  // As many: whoever weighs one more knows why.
  EXPECT_EQ(advice("{desirable_weight: 2}", 100, 100), "");
}

TEST(SpecTest, CpoIsFilledAndChecked) {
  JobSpec cpo = Parse("{model: m, cpo: {loss_type: simpo}}");
  EXPECT_THAT(ValidateSpec(cpo), IsEmpty());
  FillDefaults(&cpo);
  EXPECT_EQ(cpo.cpo().beta(), 0.1);
  EXPECT_EQ(cpo.cpo().cpo_alpha(), 1);
  EXPECT_EQ(cpo.cpo().simpo_gamma(), 0.5);
  EXPECT_EQ(cpo.training().learning_rate(), 1e-6);
  EXPECT_THAT(ValidateSpec(cpo), IsEmpty());
  EXPECT_THAT(Fields("{model: m, cpo: {loss_type: kto_pair}}"), ElementsAre("cpo.loss_type"));
  EXPECT_THAT(Fields("{model: m, cpo: {beta: 0, label_smoothing: 0.5, cpo_alpha: -1}}"),
              testing::UnorderedElementsAre("cpo.beta", "cpo.label_smoothing", "cpo.cpo_alpha"));
}

TEST(SpecTest, SftLossOptionsAreChecked) {
  const auto fields = [](const std::string& sft) {
    return Fields("{model: m, sft: {" + sft + "}}");
  };
  EXPECT_THAT(fields("label_smoothing_factor: 0.1, z_loss_weight: 1e-4, neftune_noise_alpha: 5"),
              IsEmpty());
  EXPECT_THAT(fields("label_smoothing_factor: 1"), ElementsAre("sft.label_smoothing_factor"));
  EXPECT_THAT(fields("z_loss_weight: -1"), ElementsAre("sft.z_loss_weight"));
  EXPECT_THAT(fields("neftune_noise_alpha: -1"), ElementsAre("sft.neftune_noise_alpha"));
  EXPECT_THAT(fields("response_template: 'A:', instruction_template: 'Q:'"), IsEmpty());
  EXPECT_THAT(fields("instruction_template: 'Q:'"), ElementsAre("sft.instruction_template"));
  EXPECT_THAT(fields("response_template: 'A:', completion_only_loss: true"),
              ElementsAre("sft.completion_only_loss"));
  EXPECT_THAT(fields("response_template: 'A:', assistant_only_loss: true"),
              ElementsAre("sft.assistant_only_loss"));
}

TEST(SpecTest, TheMetricOfTheBestModelIsOneOfTheMethods) {
  const auto fields = [](const std::string& method, const std::string& metric) {
    return Fields("{model: m, dataset: {name: d, eval_fraction: 0.5}, " + method +
                  ": {}, training: {eval_steps: 5, load_best_model_at_end: true, "
                  "metric_for_best_model: " +
                  metric + "}}");
  };
  EXPECT_THAT(fields("sft", "eval_mean_token_accuracy"), IsEmpty());
  EXPECT_THAT(fields("orpo", "log_odds_ratio"), IsEmpty());
  EXPECT_THAT(fields("kto", "eval_kl"), IsEmpty());
  for (const auto& [method, metric] : {std::pair("sft", "rewards/margins"),
                                       {"kto", "rewards/accuracies"},
                                       {"dpo", "accuracy"},
                                       {"cpo", "eval_log_odds_ratio"}}) {
    EXPECT_THAT(fields(method, metric), ElementsAre("training.metric_for_best_model")) << method;
  }
  // Some models have it; it is not offered to all.
  EXPECT_THAT(fields("sft", "eval_aux_loss"), IsEmpty());
  JobSpec spec;
  ParseYaml(
      "{model: m, dataset: {name: d, eval_fraction: 0.5}, sft: {}, training: "
      "{eval_steps: 5, load_best_model_at_end: true, metric_for_best_model: lss}}",
      "", &spec);
  EXPECT_EQ(
      ValidateSpec(spec).at(0).message(),
      "'lss' is not one of loss, runtime, entropy, mean_token_accuracy; did you mean 'loss'?");
}

TEST(SpecTest, AReferenceThatMovesIsNotPrecomputed) {
  EXPECT_THAT(Fields("{model: m, dpo: {sync_ref_model: true}}"), IsEmpty());
  EXPECT_THAT(Fields("{model: m, dpo: {sync_ref_model: true, precompute_ref_log_probs: true}}"),
              ElementsAre("dpo.precompute_ref_log_probs"));
  EXPECT_THAT(Fields("{model: m, dpo: {sync_ref_model: true}, training: {save_steps: 5}}"),
              IsEmpty());
  EXPECT_THAT(
      Fields("{model: m, dpo: {ref_model_mixup_alpha: 0, ref_model_sync_steps: 0}}"),
      testing::UnorderedElementsAre("dpo.ref_model_mixup_alpha", "dpo.ref_model_sync_steps"));
}

TEST(SpecTest, LoraIsFilledAndChecked) {
  const auto with = [](const std::string& lora) { return "{model: m, sft: , lora: " + lora + "}"; };
  JobSpec spec = Parse(with("{r: 4}"));
  FillDefaults(&spec);
  EXPECT_EQ(spec.lora().lora_alpha(), 8);
  EXPECT_EQ(spec.lora().lora_dropout(), 0);
  EXPECT_THAT(spec.lora().target_modules(), ElementsAre("all-linear"));
  EXPECT_THAT(ValidateSpec(spec), IsEmpty());
  JobSpec bare = Parse(with("{}"));
  ASSERT_TRUE(bare.has_lora());
  FillDefaults(&bare);
  EXPECT_EQ(bare.lora().r(), 16);
  JobSpec none = Parse("{model: m, sft: }");
  FillDefaults(&none);
  EXPECT_FALSE(none.has_lora());
  // The folder's fields stay its own, before and after.
  JobSpec more = Parse(with("{adapter_uri: /a, merge: true}"));
  FillDefaults(&more);
  EXPECT_FALSE(more.lora().has_r());
  EXPECT_THAT(ValidateSpec(more), IsEmpty());

  EXPECT_THAT(Fields(with("{r: 0}")), ElementsAre("lora.r"));
  EXPECT_THAT(Fields(with("{lora_alpha: 0}")), ElementsAre("lora.lora_alpha"));
  EXPECT_THAT(Fields(with("{lora_dropout: 1}")), ElementsAre("lora.lora_dropout"));
  EXPECT_THAT(Fields(with("{adapter_uri: /a, r: 4, use_dora: true}")),
              ElementsAre("lora.r", "lora.use_dora"));
  EXPECT_THAT(Fields(with("{adapter_uri: 's3://a'}")), ElementsAre("lora.adapter_uri"));
  EXPECT_THAT(Fields(with("{target_modules: [all-linear, q_proj]}")),
              ElementsAre("lora.target_modules"));
  EXPECT_THAT(Fields(with("{target_modules: [lm_head]}")), ElementsAre("lora.target_modules"));
  EXPECT_THAT(Fields(with("{target_modules: [q_proj], modules_to_save: [q_proj]}")),
              ElementsAre("lora.modules_to_save"));
  EXPECT_THAT(Fields("{model: m, dpo: {sync_ref_model: true}, lora: {}}"),
              ElementsAre("dpo.sync_ref_model"));
}

TEST(SpecTest, SeveralNamesInOneAreToldHowAListIsWritten) {
  const auto message = [](const std::string& text) {
    const auto violations = ValidateSpec(Parse(text));
    return violations.size() == 1 ? violations[0].message() : "";
  };
  EXPECT_EQ(message("{model: m, sft: , lora: {target_modules: 'q_proj,v_proj'}}"),
            "'q_proj,v_proj' is no layer; several are written as a list: [q_proj, v_proj]");
  EXPECT_EQ(message("{model: m, sft: , lora: {modules_to_save: ['lm_head, x']}}"),
            "'lm_head, x' is no layer; several are written as a list: [lm_head, x]");
  EXPECT_EQ(message("{model: m, dpo: {loss_type: 'ipo,sft'}}"),
            "'ipo,sft' is no loss type; several are written as a list: [ipo, sft]");
  EXPECT_THAT(ValidateSpec(Parse("{model: m, sft: , lora: {target_modules: "
                                 "'layers\\.\\d{1,2}\\.q_proj'}}")),
              IsEmpty());
}

}  // namespace
}  // namespace liger
