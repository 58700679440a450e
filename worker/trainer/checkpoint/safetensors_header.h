#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_HEADER_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "worker/trainer/checkpoint/safetensors.h"

namespace liger::trainer {

struct SafetensorsHeader {
  int64_t data_start = 0;  // first byte after the header
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

// Parses and validates the header of a whole file in memory. Throws
// TrainerError (CONFIG) as SafetensorsFile::Open says; `path` is for messages.
SafetensorsHeader ParseSafetensorsHeader(const std::string& path, std::string_view file);

// The format's name of a dtype ("BF16") and back; nullopt when there is none.
std::optional<std::string> SafetensorsDtypeName(at::ScalarType dtype);
std::optional<at::ScalarType> SafetensorsDtype(std::string_view name);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_HEADER_H_
