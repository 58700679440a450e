#ifndef LIGER_WORKER_TRAINER_GGUF_TENSOR_NAMES_H_
#define LIGER_WORKER_TRAINER_GGUF_TENSOR_NAMES_H_

#include <optional>
#include <string>

namespace liger::trainer {

// A Llama's parameter, by the name that a GGUF file has for it:
// "blk.3.attn_q.weight" is "model.layers.3.self_attn.q_proj.weight". nullopt when
// it is none.
std::optional<std::string> HuggingFaceName(const std::string& gguf_name);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_GGUF_TENSOR_NAMES_H_
