#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_ADAPTER_FOLDER_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_ADAPTER_FOLDER_H_

#include <map>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/adapter_config.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors.h"

// An adapter's folder as PEFT writes and reads it: adapter_config.json and
// adapter_model.safetensors, whose tensors have the names of the adapted model's
// own behind kAdapterPrefix ("...q_proj.lora_A.weight").
namespace liger::trainer {

inline constexpr char kAdapterPrefix[] = "base_model.model.";
inline constexpr char kAdapterWeights[] = "adapter_model.safetensors";

struct SaveAdapterRequest {
  // As SaveModelRequest's (model_folder.h).
  std::string dir;
  bool overwrite = false;
  // The base model's folder: tokenizer files and chat template are taken from it.
  std::string source_dir;
  nlohmann::ordered_json config;
  std::vector<NamedTensor> tensors;  // under their names in the file, saved as they are
  std::map<std::string, std::vector<NamedTensor>> tensor_files;  // further ones, likewise
  std::string model_card;
  std::map<std::string, std::string> extra_files;
  std::map<std::string, std::string> copy_files;
  std::map<std::string, int64_t> copy_bytes;
};

// What SaveAdapter will take of the disk, rounded up.
int64_t BytesToSave(const SaveAdapterRequest& request);

// As for SaveModelRequest.
void WriteBesideWeights(OutputFolder& folder, const SaveAdapterRequest& request);

// Writes the folder whole or not at all, with errors as SaveModel's.
SavedFolder SaveAdapter(const SaveAdapterRequest& request);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_ADAPTER_FOLDER_H_
