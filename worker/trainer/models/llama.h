#ifndef LIGER_WORKER_TRAINER_MODELS_LLAMA_H_
#define LIGER_WORKER_TRAINER_MODELS_LLAMA_H_

#include <memory>

#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

// Llama (Touvron et al. 2023, arXiv:2302.13971): pre-norm blocks of rotary
// grouped-query attention and SwiGLU, as transformers' LlamaForCausalLM.
std::shared_ptr<CausalLM> BuildLlama(const ModelConfig& config, const KernelChoice& kernels,
                                     const at::TensorOptions& options);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_LLAMA_H_
