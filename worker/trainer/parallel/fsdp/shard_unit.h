#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_UNIT_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_UNIT_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/parallel/fsdp/flat_parameter.h"

namespace liger::trainer {

// Names of units: "model.layers.3" of a block's parameters, else the parameter's own.
inline constexpr std::string_view kBlockPrefix = "model.layers.";
inline constexpr char kEmbeddingName[] = "model.embed_tokens.weight";
inline bool IsBlockName(std::string_view name) { return name.starts_with(kBlockPrefix); }
inline std::string UnitName(std::string_view parameter) {
  if (!IsBlockName(parameter)) return std::string(parameter);
  return std::string(parameter.substr(0, parameter.find('.', kBlockPrefix.size())));
}

// What is gathered and let go of together: a block of the model, its embedding, its last norm or
// its head.
struct ShardUnit {
  std::string name;
  std::vector<std::unique_ptr<FlatParameter>> parts;
  // Memory for it is lent by turns; else it has its own while it is gathered.
  bool is_block = false;
  // Stays gathered to the end of the step, and its gradients add up here until then: the head,
  // which each micro-batch needs twice, and what is not worth the trouble.
  bool kept = false;

  // Since a forward pass with gradients: the reduction is still to come.
  bool awaits_reduction = false;

  int64_t gathered_bytes() const {
    int64_t bytes = 0;
    for (const auto& part : parts) bytes += AlignedBytes(*part);
    return bytes;
  }
  // Lends each part its place of `memory`; nullptr takes it back.
  void Lend(void* memory) {
    char* place = static_cast<char*>(memory);
    for (const auto& part : parts) {
      part->Lend(place);
      if (place != nullptr) place += AlignedBytes(*part);
    }
  }
  bool trained() const {
    for (const auto& part : parts) {
      if (part->trained()) return true;
    }
    return false;
  }

 private:
  static int64_t AlignedBytes(const FlatParameter& part) {
    constexpr int64_t kUnit = 512;
    return (part.gathered_bytes() + kUnit - 1) / kUnit * kUnit;
  }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_UNIT_H_
