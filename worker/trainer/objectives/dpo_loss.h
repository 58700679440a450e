#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_DPO_LOSS_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_DPO_LOSS_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

struct DpoOptions {
  double beta = 0.1;
  std::vector<std::string> loss_types = {"sigmoid"};
  std::vector<double> loss_weights = {1.0};  // one a type
  double label_smoothing = 0;
  std::string f_divergence = "reverse_kl";
  double f_alpha = 0.5;            // of alpha_divergence
  std::optional<double> ld_alpha;  // length desensitisation
  bool use_weighting = false;      // WPO
  double discopop_tau = 0.05;
  bool precompute_reference = false;
  // Steps between moves of the reference towards the model by mixup_alpha; 0: none.
  int64_t sync_steps = 0;
  double mixup_alpha = 0.6;

  static DpoOptions FromSpec(const liger::v1::DpoMethod& spec);
};

// What the losses are functions of; all [P], fp64. Sums are over an answer's
// tokens, under the model (attached) and under the reference.
struct DpoInput {
  at::Tensor chosen_logp_P, rejected_logp_P;
  at::Tensor ref_chosen_logp_P, ref_rejected_logp_P;
  at::Tensor chosen_length_P, rejected_length_P;  // tokens of the answers
  // Of each pair's chosen tokens the sum of the negative log-probabilities, by the mean number
  // of such tokens a pair of the step: the mean over the step's pairs is that over its tokens.
  at::Tensor chosen_nll_P;
  // WPO's weight of each pair, detached; undefined without use_weighting.
  at::Tensor weight_P;
};

// One value a pair, the weighted sum of the loss types as TRL 1.16 defines them
// (docs/trainers.md has formulas and papers), but that
// - sigmoid and sigmoid_norm heed label_smoothing, as "A note on DPO with noisy preferences"
//   (Mitchell 2023, https://ericmitchell.ai/cdpo.pdf, eq. 3) has it; TRL 1.16 ignores it there,
//   earlier ones had it on sigmoid;
// - WPO weighs sft, too, each pair's own NLL, where TRL 1.16 ends with a RuntimeError.
// aot and aot_unpaired sort over the micro-batch. Throws ConfigError for an unknown type or
// divergence.
at::Tensor DpoLoss(const DpoInput& input, const DpoOptions& options);

// Whether each pair's value is a function of that pair alone, so that the sum over a batch is
// that of its parts. Not so of aot and aot_unpaired.
bool SumsOverPairs(const DpoOptions& options);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_DPO_LOSS_H_
