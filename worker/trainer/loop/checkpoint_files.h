#ifndef LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_FILES_H_
#define LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_FILES_H_

#include <string>
#include <vector>

// What checkpoints.cpp writes and resume.cpp reads; see checkpoints.h.
namespace liger::trainer {

inline constexpr char kTrainableFile[] = "trainable.safetensors";
inline constexpr char kReferenceFile[] = "reference.safetensors";
inline constexpr char kOptimizerFile[] = "optimizer.safetensors";
inline constexpr char kRandomStateFile[] = "rng_state.safetensors";
inline constexpr char kSpecFile[] = "resolved_spec.json";

// The checkpoints in a folder, newest step first.
std::vector<std::string> CheckpointsIn(const std::string& folder);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_FILES_H_
