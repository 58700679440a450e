#ifndef LIGER_COMMON_SPEC_METRIC_NAMES_H_
#define LIGER_COMMON_SPEC_METRIC_NAMES_H_

#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"

namespace liger {

// Reported beside those by models that have a load-balancing loss.
inline constexpr char kRouterLossMetric[] = "aux_loss";

// What an evaluation of the job's method reports of every model, without "eval_".
std::vector<std::string> EvaluationMetrics(const liger::v1::JobSpec& spec);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_METRIC_NAMES_H_
