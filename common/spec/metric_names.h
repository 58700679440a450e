#ifndef LIGER_COMMON_SPEC_METRIC_NAMES_H_
#define LIGER_COMMON_SPEC_METRIC_NAMES_H_

#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"

namespace liger {

// What an evaluation of the job's method reports, without "eval_". aux_loss only where the
// model has a load-balancing loss.
std::vector<std::string> EvaluationMetrics(const liger::v1::JobSpec& spec);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_METRIC_NAMES_H_
