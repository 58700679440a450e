#ifndef LIGER_WORKER_TRAINER_LOOP_MODEL_SETTINGS_H_
#define LIGER_WORKER_TRAINER_LOOP_MODEL_SETTINGS_H_

#include <map>
#include <string>

#include "worker/trainer/models/model_config.h"

// What of a model's folder, beside the weights, a run that goes on must find as it was.
namespace liger::trainer {

// What config.json decides of what the model computes from its parameters, by the key's name. Not
// what their shapes tell (ShapesDigest), nor what only random weights, samples or advice hang on.
std::map<std::string, std::string> SettingsOf(const ModelConfig& config);

// The digests of the files of tokenizer and chat templates, by name. Those that cannot be read are
// left out.
std::map<std::string, std::string> TextFilesOf(const std::string& model_dir);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_MODEL_SETTINGS_H_
