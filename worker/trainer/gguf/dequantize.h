#ifndef LIGER_WORKER_TRAINER_GGUF_DEQUANTIZE_H_
#define LIGER_WORKER_TRAINER_GGUF_DEQUANTIZE_H_

#include <ATen/core/Tensor.h>

#include "worker/trainer/gguf/gguf_file.h"

namespace liger::trainer {

// The tensor's values in fp32, on the CPU, in the file's order: bit-equal to
// gguf.dequantize of the PyPI package gguf. Throws as GgufFile::Data.
at::Tensor Dequantize(const GgufFile& file, const GgufTensor& tensor);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_GGUF_DEQUANTIZE_H_
