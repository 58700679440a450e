#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_MODEL_CARD_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_MODEL_CARD_H_

#include <string>
#include <utility>
#include <vector>

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

// A Hugging Face model card (README.md): where the model comes from, how it was
// trained, and what was measured. `results` are shown in the order given, e.g.
// {"eval_loss before", 2.31}.
std::string MakeModelCard(const liger::v1::JobSpec& resolved_spec,
                          const std::vector<std::pair<std::string, double>>& results);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_MODEL_CARD_H_
