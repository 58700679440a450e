#ifndef LIGER_WORKER_TRAINER_LOOP_INPUTS_H_
#define LIGER_WORKER_TRAINER_LOOP_INPUTS_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/data/dataset.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/loop/shape_folder.h"
#include "worker/trainer/models/model_config.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {

// Where a request's inputs lie, resolved below its roots.
struct InputPaths {
  std::string model_dir;
  // Of each source; one, where the job names no sources.
  std::vector<std::vector<std::string>> train_files;
  std::vector<std::string> eval_files;  // empty: no separate ones
  std::vector<std::string> warnings;    // of files that the job leaves out
  std::string adapter_dir;              // empty: the job starts from no adapter
  // Set when model_dir is made from a known shape (model.random_init).
  std::shared_ptr<const ShapeFolder> shape;

  // Throws TrainerError (CONFIG) naming the field.
  static InputPaths Resolve(const Request& request);
};

// Compares model.digest and the datasets' digests, where the spec gives them, with
// what lies there: SHA-256 of the model folder's manifest.json (as SaveModel
// writes it) and of the data file; of several files, of the lines
// "sha256:<hex>\n" of each. Throws TrainerError (CONFIG) on a difference.
void RequireDigests(const liger::v1::JobSpec& spec, const InputPaths& paths);

// Text side of a job: needs no device.
struct TextInputs {
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;

  // A shape without a tokenizer gets one that refuses every text, so that rows
  // of token ids can be used.
  static TextInputs Load(const InputPaths& paths);
  const ChatTemplate* template_or_null() const { return chat_template ? &*chat_template : nullptr; }
};

// The tokenised rows. Throws TrainerError (DATA), also for a token id that the
// model's embedding does not have.
Dataset LoadData(const Request& request, const InputPaths& paths, const ModelConfig& config,
                 const TextInputs& text);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_INPUTS_H_
