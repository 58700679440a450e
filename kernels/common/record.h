#ifndef LIGER_KERNELS_COMMON_RECORD_H_
#define LIGER_KERNELS_COMMON_RECORD_H_

#include "kernels/path.h"

namespace liger::kernels {

// Position in kOpNames.
enum class Op {
  kLinear,
  kRmsNorm,
  kRope,
  kSwiglu,
  kCrossEntropy,
  kFusedLinearCrossEntropy,
  kFusedLinearLogprob,
  kGeglu,
  kFusedAddRmsNorm,
  kLayerNorm,
  kEmbedding,
  kKlDiv,
  kJsd,
  kTvd,
  kGroupNorm,
  kFusedLinearJsd,
  kSoftmax,
  kDyt,
  kMatmulInt2xInt8,
};

// Notes that this path of the op ran. One relaxed load when it already has.
void RecordPath(Op op, Path path);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_RECORD_H_
