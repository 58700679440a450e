#ifndef LIGER_WORKER_TRAINER_TEXT_MODEL_H_
#define LIGER_WORKER_TRAINER_TEXT_MODEL_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "worker/trainer/text/vocabulary.h"

namespace liger::trainer {

// What a model keeps between calls of one thread: its cache and its buffers.
class ModelScratch {
 public:
  virtual ~ModelScratch() = default;
};

// Turns a piece of text into token ids. Immutable; threads differ in their scratch.
class Model {
 public:
  virtual ~Model() = default;
  virtual std::unique_ptr<ModelScratch> NewScratch() const = 0;
  // Appends the ids of `piece` (valid UTF-8, not empty). `scratch` is from
  // NewScratch of this model and in use by no other thread.
  virtual void Tokenize(std::string_view piece, ModelScratch* scratch,
                        std::vector<int32_t>* ids) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_MODEL_H_
