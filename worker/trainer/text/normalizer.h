#ifndef LIGER_WORKER_TRAINER_TEXT_NORMALIZER_H_
#define LIGER_WORKER_TRAINER_TEXT_NORMALIZER_H_

#include <memory>
#include <string>

#include "worker/trainer/text/config_node.h"

namespace liger::trainer {

// Rewrites a text before it is cut. Immutable and thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // `text` is valid UTF-8, and so is the result.
  virtual std::string Normalize(std::string text) const = 0;
};

// The normalizer at `node`; throws TrainerError for a type that is not in the
// factory table.
std::unique_ptr<Normalizer> MakeNormalizer(const ConfigNode& node);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_NORMALIZER_H_
