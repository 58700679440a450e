#ifndef LIGER_COMMON_SPEC_SAVED_MODEL_H_
#define LIGER_COMMON_SPEC_SAVED_MODEL_H_

#include <cstdint>
#include <string>

#include "liger/v1/job.pb.h"

namespace liger {

// Of which step a job's saved model is and what decided that, for people; `best`: a default one
// where no evaluation did. "step 40, of the best eval_loss (2.31); stopped early after step 60".
std::string SavedModelText(int64_t saved_step, const liger::v1::BestEvaluation& best);

// "goes on from /outputs/job.checkpoints/checkpoint-20, after step 20".
std::string ResumedText(const liger::v1::ResumedFrom& resumed);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_SAVED_MODEL_H_
