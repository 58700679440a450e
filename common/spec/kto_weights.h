#ifndef LIGER_COMMON_SPEC_KTO_WEIGHTS_H_
#define LIGER_COMMON_SPEC_KTO_WEIGHTS_H_

#include <cstdint>
#include <string>

#include "liger/v1/job_spec.pb.h"

namespace liger {

// What a running job and a dry run both say where the numbers of wanted and unwanted rows differ
// and the weights do not make up for it: Ethayarajh et al. 2024 (arXiv:2402.01306), eq. 8, want
//
//   1 <= desirable_weight * wanted / (undesirable_weight * unwanted) <= 4/3
//
// of which TRL 1.16 warns likewise. "" where they are as they should be, or equal.
std::string KtoWeightAdvice(const liger::v1::KtoMethod& kto, int64_t wanted, int64_t unwanted);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_KTO_WEIGHTS_H_
