#ifndef LIGER_WORKER_TRAINER_LOOP_CACHED_INPUTS_H_
#define LIGER_WORKER_TRAINER_LOOP_CACHED_INPUTS_H_

#include <string>

namespace liger::trainer {

// What all tokenised rows of a job depend on, as text for the key of a TokenCache:
// - this program: its file's size and time, since a rebuilt one may tokenise otherwise, and those
//   of the module that reads Parquet and Arrow;
// - the model folder's files of text (tokenizer, chat templates, configs), by their content;
// - the date, with `of_today`.
std::string CachedInputs(const std::string& model_dir, bool of_today);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CACHED_INPUTS_H_
