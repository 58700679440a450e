#ifndef LIGER_WORKER_TRAINER_LOOP_INPUT_WARNINGS_H_
#define LIGER_WORKER_TRAINER_LOOP_INPUT_WARNINGS_H_

#include <string>
#include <vector>

#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/models/model_config.h"

namespace liger::trainer {

// What somebody should know of a job's model and rows that is no error; what the spec alone shows
// is SpecWarnings'.
std::vector<liger::v1::Warning> ModelWarnings(const ModelConfig& config,
                                              const liger::v1::TrainingSpec& training);
// `adapter_dir`: of lora.adapter_uri; empty: none. Throws as AdapterConfig::FromFolder.
std::vector<liger::v1::Warning> AdapterWarnings(const liger::v1::ModelSpec& model,
                                                const std::string& model_dir,
                                                const std::string& adapter_dir);
std::vector<liger::v1::Warning> DataWarnings(const Dataset& dataset);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_INPUT_WARNINGS_H_
