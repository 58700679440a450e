#ifndef LIGER_WORKER_TRAINER_DATA_SFT_LOSS_OPTIONS_H_
#define LIGER_WORKER_TRAINER_DATA_SFT_LOSS_OPTIONS_H_

#include <string>

namespace liger::trainer {

// Of SftMethod: which tokens have a loss, besides completion_only_loss.
struct SftLossOptions {
  bool assistant_only_loss = false;
  std::string response_template, instruction_template;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_SFT_LOSS_OPTIONS_H_
