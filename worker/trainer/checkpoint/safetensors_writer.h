#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_WRITER_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_WRITER_H_

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors.h"

namespace liger::trainer {

// Writes one safetensors file into the folder. Floating-point tensors are
// converted to float_dtype when given, one at a time: at most one tensor's
// bytes are held beside the tensors themselves. In the file they lie by
// descending element size, then by name, so that each is aligned.
//
// Throws STORAGE, and std::invalid_argument for a name given twice or a dtype
// that the format lacks.
void WriteSafetensors(OutputFolder& folder, const std::string& file_name,
                      const std::vector<NamedTensor>& tensors,
                      std::optional<at::ScalarType> float_dtype = std::nullopt,
                      const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

// The same into a file that the caller closes.
void WriteSafetensors(FileWriter& file, const std::vector<NamedTensor>& tensors,
                      std::optional<at::ScalarType> float_dtype = std::nullopt,
                      const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

// Bytes of a tensor's data in the file.
int64_t SavedBytes(const NamedTensor& tensor, std::optional<at::ScalarType> float_dtype);

// Writes a model's weights as transformers does: model.safetensors, or, when
// they are more than max_shard_bytes, model-00001-of-0000N.safetensors and
// model.safetensors.index.json. Shards are filled in the order given.
void WriteWeights(OutputFolder& folder, const std::vector<NamedTensor>& tensors,
                  at::ScalarType dtype, int64_t max_shard_bytes);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_WRITER_H_
