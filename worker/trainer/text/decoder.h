#ifndef LIGER_WORKER_TRAINER_TEXT_DECODER_H_
#define LIGER_WORKER_TRAINER_TEXT_DECODER_H_

#include <memory>
#include <string>
#include <vector>

#include "worker/trainer/text/config_node.h"

namespace liger::trainer {

// Rewrites tokens into parts of a text, which are joined at the end. Immutable
// and thread-safe.
class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual std::vector<std::string> Decode(std::vector<std::string> tokens) const = 0;
};

// The decoder at `node`; throws TrainerError for a type that is not in the
// factory table.
std::unique_ptr<Decoder> MakeDecoder(const ConfigNode& node);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_DECODER_H_
