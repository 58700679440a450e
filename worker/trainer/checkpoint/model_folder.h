#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_MODEL_FOLDER_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_MODEL_FOLDER_H_

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors.h"

namespace liger::trainer {

// The folder in `dir` that holds `file`: of checkpoints the newest. "": none does,
// or several that are no checkpoints.
std::string FolderInside(const std::string& dir, const std::string& file);

// config.json of a Hugging Face folder. Errors as ReadJsonObject's (json_file.h).
nlohmann::json ReadModelConfig(const std::string& model_dir);
// generation_config.json; nullopt when the folder has none.
std::optional<nlohmann::json> ReadGenerationConfig(const std::string& model_dir);

// What makes up a folder's tokenizer and chat templates: path by name.
std::map<std::string, std::string> TokenizerFiles(const std::string& source_dir);

// Those, generation's defaults and the licence.
std::map<std::string, std::string> FilesBesideWeights(const std::string& source_dir);

// Of those copies, the ones that are saved with other contents, taken out of `copies`: content by
// name. Names of Python code (auto_map), which is not saved, are dropped.
std::map<std::string, std::string> ChangedFiles(std::map<std::string, std::string>& copies);

// Everything the output folder is made of.
struct SaveModelRequest {
  // The folder to make. It must not exist, unless `overwrite`.
  std::string dir;
  bool overwrite = false;
  // Hugging Face folder the run started from: config.json, generation_config,
  // tokenizer files and chat template are taken from it.
  std::string source_dir;
  // Every parameter by its Hugging Face name. With tie_word_embeddings in
  // config.json an lm_head.weight is left out, as transformers does. None: no
  // weights are written.
  std::vector<NamedTensor> tensors;
  // The head is the model's own although the source's config ties it: it is kept, and the
  // new config does not tie it.
  bool untied = false;
  // Written to the files and to config.json.
  at::ScalarType dtype = at::kFloat;
  // Shards hold at most this much, unless one tensor alone is larger.
  int64_t max_shard_bytes = 5'000'000'000;
  // Further safetensors files by name, each tensor in its own dtype.
  std::map<std::string, std::vector<NamedTensor>> tensor_files;
  // README.md (see model_card.h); empty: none.
  std::string model_card;
  // Files made by the caller: name to content (resolved_spec.json, ...).
  std::map<std::string, std::string> extra_files;
  // Files to copy: name to path (metrics.jsonl, ...).
  std::map<std::string, std::string> copy_files;
  // Of those that grow meanwhile: name to the bytes to copy.
  std::map<std::string, int64_t> copy_bytes;
};

// Copies files, name to path, into the folder; of those in `bytes` the first so many.
void CopyFiles(OutputFolder& folder, const std::map<std::string, std::string>& files,
               const std::map<std::string, int64_t>& bytes);

// What tensors saved in `dtype` (nullopt: their own), files to copy and the small
// ones beside them take of the disk, rounded up.
int64_t BytesOf(const std::vector<NamedTensor>& tensors, std::optional<at::ScalarType> dtype,
                const std::map<std::string, std::string>& copies);

// What SaveModel will take of the disk, rounded up.
int64_t BytesToSave(const SaveModelRequest& request);

// All of it but model weights and README.md, into a folder that the caller commits.
void WriteBesideWeights(OutputFolder& folder, const SaveModelRequest& request);

// Writes the folder: into a temporary one beside it, every file and folder
// synced, then renamed, so that it appears whole or not at all. manifest.json
// lists each file's size and SHA-256 (output_folder.h).
//
// Throws TrainerError (STORAGE) with the path, the bytes needed and those free;
// the temporary folder is removed then. Throws CONFIG when dir exists.
SavedFolder SaveModel(const SaveModelRequest& request);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_MODEL_FOLDER_H_
