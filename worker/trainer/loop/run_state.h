#ifndef LIGER_WORKER_TRAINER_LOOP_RUN_STATE_H_
#define LIGER_WORKER_TRAINER_LOOP_RUN_STATE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/checkpoints.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/sampler.h"
#include "worker/trainer/loop/best_model.h"
#include "worker/trainer/loop/progress.h"

namespace liger::trainer {

// trainer_state.json of a checkpoint: what a run must know to go on, beside
// parameters, optimizer state and random state.
struct RunState {
  std::string job_uid;  // the coordinator's; "": of a run without one, or not said
  int64_t step = 0;
  int64_t max_steps = 0;
  double epoch = 0;
  DataPosition position;
  // Of the training rows, to tell whether a later run has the same ones.
  int64_t rows = 0, tokens = 0, target_tokens = 0, digest = 0;
  // Of the model that the run began with, to tell whether a later one has it, too.
  struct Model {
    std::string shapes;   // ShapesDigest; "": of a checkpoint that does not say
    std::string weights;  // Checksum of what checkpoints do not hold or a reference keeps; ""
                          // where that is nothing
    // SettingsOf and TextFilesOf; empty: of a checkpoint that does not say.
    std::map<std::string, std::string> settings, text_files;
  };
  Model model;
  Progress::State progress;
  BestModel::State best;
  std::vector<double> eval_losses;
  int64_t last_evaluated_step = -1;
  double last_loss = 0;
  // The job's checkpoints that are kept, this one included.
  std::vector<CheckpointMark> checkpoints;

  // Numbers read back are equal to the last bit.
  std::string ToJson() const;
  // Throws TrainerError (CONFIG) with the file when it is not what ToJson writes.
  static RunState FromFile(const std::string& path);

  void SetData(const DataStats& stats);
  // Throws TrainerError (CONFIG, training.resume_from_checkpoint) when it is of another model.
  void RequireSameShapes(const std::string& shapes, const std::string& checkpoint) const;
  void RequireSameWeights(const std::string& weights, const std::string& checkpoint) const;
  // `model_dir`: where the model lies whose settings they are. A setting that only one of both has
  // is of another release.
  void RequireSameSettings(const std::map<std::string, std::string>& settings,
                           const std::string& model_dir, const std::string& checkpoint) const;
  // The first of the files in `model_dir` that is not as it was; "": none.
  std::string ChangedTextFile(const std::map<std::string, std::string>& text_files,
                              const std::string& model_dir) const;
  // Throws TrainerError (DATA) when the rows are others than those of `stats`, for which
  // `changed_text_file` may be the cause.
  void RequireSameData(const DataStats& stats, const std::string& checkpoint,
                       const std::string& changed_text_file = "") const;
  // Throws TrainerError (CONFIG, `field`, which says how long the job is) when the run was beyond
  // its last step already.
  void RequireNotPast(int64_t last_step, const std::string& field,
                      const std::string& checkpoint) const;
};

inline constexpr char kRunStateFile[] = "trainer_state.json";

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RUN_STATE_H_
