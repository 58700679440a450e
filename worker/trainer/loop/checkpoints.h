#ifndef LIGER_WORKER_TRAINER_LOOP_CHECKPOINTS_H_
#define LIGER_WORKER_TRAINER_LOOP_CHECKPOINTS_H_

#include <string>
#include <vector>

#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/loop/run_state.h"
#include "worker/trainer/optim/optimizer.h"
#include "worker/trainer/optim/precision.h"

namespace liger::trainer {

// Training checkpoints of one run. checkpoint-<step> is a Hugging Face folder of
// the model (in the storage dtype), or PEFT's folder of the adapter, with, beside it:
//
//   optimizer.safetensors   the optimizer's state
//   rng_state.safetensors   the state of torch's generators, by device and rank
//   reference.safetensors   the reference, where it moves (dpo.sync_ref_model)
//   trainer_state.json      RunState
//   metrics.jsonl, resolved_spec.json, manifest.json
//
// It appears whole or not at all. Without an agent it appears in the folder of the
// run's checkpoints beside its output, and those that the limit leaves no room for
// go; with one it waits in the attempt's folder for the agent to move it there,
// and the coordinator decides which go.
class Checkpoints {
 public:
  // References must outlive this. `model_dir`: the Hugging Face folder that the run
  // started from. `moving_reference`: Objective::MovingReference.
  Checkpoints(const Request& request, const TrainableModel& trainable, const Optimizer& optimizer,
              const PrecisionPlan& precision, std::string model_dir,
              const CausalLM* moving_reference);

  // The job's earlier ones, of a run that goes on.
  void Adopt(std::vector<CheckpointMark> checkpoints) { kept_ = std::move(checkpoints); }

  // Before hours of training, not after: throws TrainerError (STORAGE) when the
  // model and the checkpoints of `steps` steps have no room where they will be
  // written, or where an agent will publish them.
  void RequireRoom(int64_t steps) const;

  // Writes checkpoint-<state.step> and fills in state.checkpoints. `best`: of the
  // best evaluation so far. `random`: GatherRandomState. Throws TrainerError (STORAGE) when it cannot; earlier
  // ones are as they were then.
  v1::Saved Save(RunState state, bool best, const std::string& metrics_path,
                 const std::vector<NamedTensor>& random);

  // The trained parameters alone, for the end of this run; replaces those that
  // were kept before. Throws STORAGE.
  void KeepParameters() const;
  // Where they are.
  std::string kept_parameters_dir() const;

 private:
  // Hands what a checkpoint is made of to `use`, but for what changes beside the weights.
  template <typename Use>
  auto WithFolder(const std::string& dir, const Use& use) const;
  // Checkpoints that exist at once while the last one is written.
  int64_t MostAtOnce(int64_t steps) const;
  void RemoveOld();

  const Request& request_;
  const TrainableModel& trainable_;
  const Optimizer& optimizer_;
  const PrecisionPlan precision_;
  const std::string model_dir_;
  const CausalLM* const moving_reference_;
  std::vector<CheckpointMark> kept_;
};

// Where a run without an agent keeps its checkpoints.
std::string CheckpointsFolder(const Request& request);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CHECKPOINTS_H_
