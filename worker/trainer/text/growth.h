#ifndef LIGER_WORKER_TRAINER_TEXT_GROWTH_H_
#define LIGER_WORKER_TRAINER_TEXT_GROWTH_H_

#include <cstddef>
#include <string>

#include "worker/trainer/error.h"

namespace liger::trainer {

// Steps of a tokenizer.json may each double a text, and a few dozen of them would
// fill any memory. None that a model ships makes it 64 times as long.
inline void RequireBoundedGrowth(size_t before, size_t after) {
  constexpr size_t kSlack = 64 << 10, kFactor = 64;
  if (after <= kSlack + kFactor * before) return;
  throw DataError("the tokenizer makes a text of " + std::to_string(before) + " bytes more than " +
                      std::to_string(kFactor) + " times as long with its Replace steps",
                  "Remove the steps from tokenizer.json, or use the model's own tokenizer.");
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_GROWTH_H_
