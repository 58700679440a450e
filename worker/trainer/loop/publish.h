#ifndef LIGER_WORKER_TRAINER_LOOP_PUBLISH_H_
#define LIGER_WORKER_TRAINER_LOOP_PUBLISH_H_

#include <string>
#include <utility>
#include <vector>

#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/optim/precision.h"

namespace liger::trainer {

// What a finished run knows about itself, for the output folder.
struct RunSummary {
  std::string model_dir;     // the Hugging Face folder it started from
  std::string metrics_path;  // metrics.jsonl in the attempt's folder
  int64_t steps = 0;
  // For the model card, in this order: {"eval_loss before", 2.31}, ...
  std::vector<std::pair<std::string, double>> results;
};

// The whole model (an adapter merged into it), as it will be saved: without what the run tells
// about itself.
SaveModelRequest ModelToSave(const Request& request, const TrainableModel& trainable,
                             const PrecisionPlan& precision, const std::string& model_dir);

// The adapter alone, likewise. REQUIRES: trainable.lora.
SaveAdapterRequest AdapterToSave(const Request& request, const TrainableModel& trainable,
                                 const std::string& model_dir);

// Writes either kind of folder.
inline SavedFolder SaveFolder(const SaveModelRequest& save) { return SaveModel(save); }
inline SavedFolder SaveFolder(const SaveAdapterRequest& save) { return SaveAdapter(save); }

// Where SaveOutput writes first, and the bytes it takes there: a model, or an adapter alone.
struct OutputSize {
  std::string dir;
  int64_t bytes = 0;
};
OutputSize SizeOfOutput(const Request& request, const TrainableModel& trainable,
                        const PrecisionPlan& precision, const std::string& model_dir);

// resolved_spec.json.
std::string SpecJson(const liger::v1::JobSpec& spec);

// Writes the output folder (weights in the storage dtype, config, tokenizer,
// metrics.jsonl, resolved_spec.json, model card; with LoRA PEFT's adapter folder,
// unless the spec asks for the merged model): below the attempt's folder
// when an agent will publish it, else straight to its place by a rename.
// Throws TrainerError (STORAGE) when it cannot; nothing half written stays.
liger::trainer::v1::Saved SaveOutput(const Request& request, const TrainableModel& trainable,
                                     const PrecisionPlan& precision, const RunSummary& summary);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_PUBLISH_H_
