#ifndef LIGER_WORKER_AGENT_MODEL_FACTS_H_
#define LIGER_WORKER_AGENT_MODEL_FACTS_H_

#include <cstdint>
#include <string>

namespace liger::agent {

// What a model listing shows. Only a hint: the trainer's CHECK is what
// validates a model, so anything unreadable is just left out here.

// model_type of config.json; empty when there is none.
std::string ModelArchitecture(const std::string& model_dir);

// Elements of all tensors, from the headers of the .safetensors files; 0 when
// the folder has no weights.
int64_t ModelParameters(const std::string& model_dir);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_MODEL_FACTS_H_
