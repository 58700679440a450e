#ifndef LIGER_WORKER_TRAINER_TEXT_BPE_READER_H_
#define LIGER_WORKER_TRAINER_TEXT_BPE_READER_H_

#include <simdjson.h>

#include <memory>
#include <string>

#include "worker/trainer/text/model.h"

namespace liger::trainer {

// The model at tokenizer.json's "model"; throws TrainerError for a type other
// than BPE and for a vocabulary or merges that do not fit together. `path` is
// the file's, for errors.
std::unique_ptr<Model> ReadModel(const simdjson::dom::element& model, const std::string& path);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_BPE_READER_H_
