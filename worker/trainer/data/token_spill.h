#ifndef LIGER_WORKER_TRAINER_DATA_TOKEN_SPILL_H_
#define LIGER_WORKER_TRAINER_DATA_TOKEN_SPILL_H_

#include <cstdint>
#include <string>

#include "worker/trainer/data/example.h"

namespace liger::trainer {

// Keeps the tokens of a set that grows in mapped files without names, above a bound: what memory
// holds of them is then the system's to drop.
class TokenSpill {
 public:
  // `name`: of the data, for messages. `folder`: "" is the system's for temporary files.
  // `most_bytes`: of tokens in memory; 0: any.
  TokenSpill(std::string name, std::string folder, int64_t most_bytes)
      : name_(std::move(name)), folder_(std::move(folder)), most_bytes_(most_bytes) {}

  // Call it with the same set after rows have been appended to it. Throws TrainerError (STORAGE)
  // when the folder has no room.
  void Bound(ExampleSet* set);

 private:
  const std::string name_, folder_;
  const int64_t most_bytes_;
  size_t sequences_ = 0, answers_ = 0;  // of the set that were looked at
  size_t spilled_sequences_ = 0, spilled_answers_ = 0;
  int64_t bytes_ = 0;  // of those that are not spilled
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKEN_SPILL_H_
