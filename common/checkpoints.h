#ifndef LIGER_COMMON_CHECKPOINTS_H_
#define LIGER_COMMON_CHECKPOINTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Training checkpoints as the trainer writes them, the agent moves them and the
// coordinator lists them (docs/protocol.md, Checkpoints).
namespace liger {

// Where a job's checkpoints lie: beside its output folder, under its name and this.
inline constexpr char kCheckpointsSuffix[] = ".checkpoints";

// Behind the name of a checkpoint that was found damaged: nothing takes it for one any more.
inline constexpr char kDamagedSuffix[] = ".damaged";

// Saved.kind and Artifact.kind of a checkpoint; the second is that of the best
// evaluation so far (training.load_best_model_at_end).
inline constexpr char kCheckpointKind[] = "checkpoint";
inline constexpr char kBestCheckpointKind[] = "best_checkpoint";
inline bool IsCheckpointKind(std::string_view kind) {
  return kind == kCheckpointKind || kind == kBestCheckpointKind;
}

// Code of the warning that an attempt does not go on from a checkpoint. Its `file` is where
// one that was found damaged lies now, and empty for others.
inline constexpr char kNotResumedCode[] = "NotResumed";

// Code of the warning that a pause came to nothing: the checkpoint could not be saved.
inline constexpr char kNotPausedCode[] = "NotPaused";

// "checkpoint-20": a checkpoint's folder and its publication id.
std::string CheckpointName(int64_t step);
// The step of such a name; nullopt for any other.
std::optional<int64_t> CheckpointStep(std::string_view name);

struct CheckpointMark {
  int64_t step = 0;
  bool best = false;  // kBestCheckpointKind
};

// The steps of those to remove: all but the newest `limit` and the newest best
// one. limit 0: none.
std::vector<int64_t> CheckpointsToRemove(std::vector<CheckpointMark> checkpoints, int64_t limit);

}  // namespace liger

#endif  // LIGER_COMMON_CHECKPOINTS_H_
