#ifndef LIGER_WORKER_TRAINER_LOOP_CHECKPOINTS_H_
#define LIGER_WORKER_TRAINER_LOOP_CHECKPOINTS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/loop/host_copies.h"
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
//
// A draft is what will be written; it is so of copies on the host, where there is memory for them,
// and then by another thread while training goes on.
//
// Where ranks share the model, each writes what it has of parameters and states into the one folder
// (saved_tensors.h), in place of the model's weights and optimizer.safetensors. Ranks that do not
// see that folder (other hosts, another disk) leave the writing to rank 0, which writes the folder
// of one device.
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

  // What is to be saved of the present moment.
  struct Content {
    // checkpoint-<state.step>; state.checkpoints is filled in.
    bool checkpoint = false;
    RunState state;
    bool best = false;  // of the best evaluation so far
    std::string metrics_path;
    std::vector<NamedTensor> random;  // GatherRandomState
    // The trained parameters alone, for the end of this run, in the place of those that were kept
    // before.
    bool parameters = false;
  };
  struct Draft {
    // Any thread may call these, once. They throw TrainerError (STORAGE) when they cannot; earlier
    // checkpoints are as they were then. Empty: not asked for.
    std::function<void()> keep_parameters;
    std::function<v1::Saved()> write_checkpoint;
    // Training may go on meanwhile, but for BeforeUpdate: all that it changes is copied.
    bool copied = false;
    std::string why_not;
  };
  // Begins to take host memory for copies of what checkpoints will hold; `parameters` as in
  // Content. Once the optimizer has its states.
  void Reserve(bool parameters);
  // The draft before this one is written, or dropped.
  Draft Begin(const Content& content);

  // ---- Of a model that ranks share ----

  // On rank 0: the folder into which all will write checkpoint-<step>. Throws STORAGE.
  std::string OpenFolder(int64_t step);
  // No draft comes of it.
  void CloseFolder() { folder_.reset(); }
  // As Begin, on every rank, what it writes into that folder; rank 0's waits for the others'.
  // Content::parameters has no part in it.
  Draft BeginShards(const Content& content, const std::string& folder);

  // The ranks part, some before their shards are written: a draft that waits for them throws. From
  // any thread.
  void GiveUp() { given_up_.store(true); }

  // To be called before parameters or the optimizer's states change.
  void BeforeUpdate() { copies_.BeforeChange(); }
  // HostCopies::TakeHeldUpSeconds.
  double TakeHeldUpSeconds() { return copies_.TakeHeldUpSeconds(); }

  // Where Content::parameters are.
  std::string kept_parameters_dir() const;

 private:
  // Hands what a checkpoint is made of to `use`, but for what changes beside the weights.
  template <typename Use>
  auto WithFolder(const std::string& dir, const Use& use) const;
  std::string FolderOf(int64_t step) const;
  // Of one, on the disk.
  int64_t BytesOfOne() const;
  // Adds what is neither weights nor states, and takes this one into account.
  template <typename SaveRequest>
  void AddState(const Content& content, SaveRequest& save);
  // Checkpoints that exist at once while the last one is written.
  int64_t MostAtOnce(int64_t steps) const;
  // What training changes in a SaveModelRequest or SaveAdapterRequest and in `trained`; none where
  // a tensor is made only when it is written.
  template <typename SaveRequest>
  static std::optional<std::vector<at::Tensor*>> Changing(SaveRequest& save,
                                                          std::vector<NamedTensor>& trained);
  void KeepParameters(const std::vector<NamedTensor>& trained) const;
  v1::Saved Finished(const SavedFolder& folder, int64_t step, bool best);
  void RemoveOld();

  const Request& request_;
  const TrainableModel& trainable_;
  const Optimizer& optimizer_;
  const PrecisionPlan precision_;
  const std::string model_dir_;
  const CausalLM* const moving_reference_;
  std::vector<CheckpointMark> kept_;  // not while a draft is written
  std::atomic<bool> given_up_{false};
  HostCopies copies_;
  std::shared_ptr<OutputFolder> folder_;  // between OpenFolder and BeginShards
};

// Where a run without an agent keeps its checkpoints.
std::string CheckpointsFolder(const Request& request);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CHECKPOINTS_H_
