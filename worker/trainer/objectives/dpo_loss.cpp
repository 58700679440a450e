#include "worker/trainer/objectives/dpo_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

at::Tensor LogSigmoid(const at::Tensor& x) { return at::log_sigmoid(x); }

// f'(t) of the divergence at t = pi / pi_ref, up to what a difference cancels
// (Wang et al. 2023, arXiv:2309.16240); for the reverse KL divergence log t.
at::Tensor Score(const at::Tensor& logratio, const DpoOptions& options) {
  const std::string& name = options.f_divergence;
  if (name == "reverse_kl") return logratio;
  if (name == "forward_kl") return 1 - (-logratio).exp();
  if (name == "js_divergence") return std::numbers::ln2 + LogSigmoid(logratio);
  if (name != "alpha_divergence") {
    throw ConfigError("dpo.f_divergence_type '" + name + "' is unknown",
                      "Use reverse_kl, forward_kl, js_divergence or alpha_divergence.")
        .Field("dpo.f_divergence_type");
  }
  const double power = options.f_alpha - 1;
  if (std::abs(power) < 1e-6) return logratio;
  // Cut where TRL cuts in fp32.
  return (at::clamp_max(power * logratio, 80.0).exp() - 1) / power;
}

struct Terms {
  const DpoInput& in;
  const DpoOptions& options;
  double beta;
  at::Tensor chosen_logratio, rejected_logratio;  // log pi - log pi_ref
  at::Tensor chosen_score, rejected_score;
  at::Tensor margin;  // beta * (chosen_score - rejected_score)

  Terms(const DpoInput& input, const DpoOptions& dpo)
      : in(input),
        options(dpo),
        beta(dpo.beta),
        chosen_logratio(input.chosen_logp_P - input.ref_chosen_logp_P),
        rejected_logratio(input.rejected_logp_P - input.ref_rejected_logp_P),
        chosen_score(Score(chosen_logratio, dpo)),
        rejected_score(Score(rejected_logratio, dpo)),
        margin(dpo.beta * (chosen_score - rejected_score)) {}

  // Difference of the scores a token.
  at::Tensor TokenMargin() const {
    return chosen_score / in.chosen_length_P - rejected_score / in.rejected_length_P;
  }
  // -log sigmoid with a share of the labels taken for swapped (cDPO: Mitchell 2023).
  at::Tensor Smoothed(const at::Tensor& x) const {
    const double smoothing = options.label_smoothing;
    return -LogSigmoid(x) * (1 - smoothing) - LogSigmoid(-x) * smoothing;
  }
};

at::Tensor ExoPair(const Terms& t) {
  const double epsilon = t.options.label_smoothing;
  return t.margin.sigmoid() * (LogSigmoid(t.margin) - std::log1p(-epsilon)) +
         (-t.margin).sigmoid() * (LogSigmoid(-t.margin) - std::log(epsilon));
}

at::Tensor Robust(const Terms& t) {
  const double smoothing = t.options.label_smoothing;
  return (-(1 - smoothing) * LogSigmoid(t.margin) + smoothing * LogSigmoid(-t.margin)) /
         (1 - 2 * smoothing);
}

at::Tensor Sorted(const at::Tensor& x) { return std::get<0>(x.sort()); }

// Sorted policy margins against sorted reference margins.
at::Tensor Aot(const Terms& t) {
  const at::Tensor policy = t.in.chosen_logp_P - t.in.rejected_logp_P;
  const at::Tensor reference = t.in.ref_chosen_logp_P - t.in.ref_rejected_logp_P;
  return t.Smoothed(t.beta * (Sorted(policy) - Sorted(reference)));
}

at::Tensor DiscoPop(const Terms& t) {
  const at::Tensor mix = (t.margin / t.options.discopop_tau).sigmoid();
  return -LogSigmoid(t.margin) * (1 - mix) + (-t.margin).exp() * mix;
}

using Loss = at::Tensor (*)(const Terms&);

// One line a loss type; the papers are in docs/trainers.md.
const std::map<std::string, Loss>& Losses() {
  static const std::map<std::string, Loss> losses = {
      {"sigmoid", [](const Terms& t) { return t.Smoothed(t.margin); }},
      {"hinge", [](const Terms& t) { return (1 - t.margin).relu(); }},
      {"ipo", [](const Terms& t) { return (t.TokenMargin() - 1 / (2 * t.beta)).square(); }},
      {"exo_pair", ExoPair},
      {"nca_pair",
       [](const Terms& t) {
         const at::Tensor chosen = t.beta * t.chosen_logratio;
         const at::Tensor rejected = t.beta * t.rejected_logratio;
         return -LogSigmoid(chosen) - 0.5 * LogSigmoid(-chosen) - 0.5 * LogSigmoid(-rejected);
       }},
      {"robust", Robust},
      {"bco_pair",
       [](const Terms& t) {
         return -LogSigmoid(t.beta * t.chosen_logratio) - LogSigmoid(-t.beta * t.rejected_logratio);
       }},
      {"sppo_hard",
       [](const Terms& t) {
         const double half = 0.5 / t.beta;
         return (t.chosen_logratio - half).square() + (t.rejected_logratio + half).square();
       }},
      {"aot", Aot},
      {"aot_unpaired",
       [](const Terms& t) {
         const at::Tensor delta = Sorted(t.chosen_logratio) - Sorted(t.rejected_logratio);
         return t.Smoothed(t.beta * delta);
       }},
      {"apo_zero",
       [](const Terms& t) {
         return 1 - (t.beta * t.chosen_logratio).sigmoid() +
                (t.beta * t.rejected_logratio).sigmoid();
       }},
      {"apo_down",
       [](const Terms& t) {
         const at::Tensor difference = t.chosen_logratio - t.rejected_logratio;
         return (t.beta * t.chosen_logratio).sigmoid() + 1 - (t.beta * difference).sigmoid();
       }},
      {"discopop", DiscoPop},
      {"sft", [](const Terms& t) { return t.in.chosen_nll_P; }},
      {"sigmoid_norm", [](const Terms& t) { return t.Smoothed(t.beta * t.TokenMargin()); }},
  };
  return losses;
}

}  // namespace

DpoOptions DpoOptions::FromSpec(const liger::v1::DpoMethod& spec) {
  DpoOptions options;
  if (spec.has_beta()) options.beta = spec.beta();
  if (!spec.loss_type().empty()) {
    options.loss_types = {spec.loss_type().begin(), spec.loss_type().end()};
  }
  options.loss_weights.assign(options.loss_types.size(), 1.0);
  if (!spec.loss_weights().empty()) {
    options.loss_weights = {spec.loss_weights().begin(), spec.loss_weights().end()};
  }
  if (options.loss_weights.size() != options.loss_types.size()) {
    throw ConfigError("dpo.loss_weights has " + std::to_string(options.loss_weights.size()) +
                          " weights for " + std::to_string(options.loss_types.size()) +
                          " loss types",
                      "Give one weight for each loss type, or none.")
        .Field("dpo.loss_weights");
  }
  options.label_smoothing = spec.label_smoothing();
  if (!spec.f_divergence_type().empty()) options.f_divergence = spec.f_divergence_type();
  if (spec.has_f_alpha_divergence_coef()) options.f_alpha = spec.f_alpha_divergence_coef();
  if (spec.has_ld_alpha()) options.ld_alpha = spec.ld_alpha();
  options.use_weighting = spec.use_weighting();
  if (spec.has_discopop_tau()) options.discopop_tau = spec.discopop_tau();
  options.precompute_reference = spec.precompute_ref_log_probs();
  if (spec.has_ref_model_mixup_alpha()) options.mixup_alpha = spec.ref_model_mixup_alpha();
  if (spec.sync_ref_model()) {
    options.sync_steps = spec.has_ref_model_sync_steps() ? spec.ref_model_sync_steps() : 512;
  }
  return options;
}

at::Tensor DpoLoss(const DpoInput& input, const DpoOptions& options) {
  const Terms terms(input, options);
  at::Tensor sum_P;
  for (size_t i = 0; i < options.loss_types.size(); ++i) {
    const auto it = Losses().find(options.loss_types[i]);
    if (it == Losses().end()) {
      throw ConfigError("dpo.loss_type '" + options.loss_types[i] + "' is unknown",
                        "See docs/trainers.md for the loss types.")
          .Field("dpo.loss_type");
    }
    at::Tensor loss_P = it->second(terms) * options.loss_weights[i];
    if (input.weight_P.defined()) loss_P = loss_P * input.weight_P;
    sum_P = sum_P.defined() ? sum_P + loss_P : loss_P;
  }
  return sum_P;
}

bool SumsOverPairs(const DpoOptions& options) {
  return std::ranges::none_of(options.loss_types, [&](const std::string& type) {
    return type == "aot" || type == "aot_unpaired";
  });
}

}  // namespace liger::trainer
