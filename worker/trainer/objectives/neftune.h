#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_NEFTUNE_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_NEFTUNE_H_

#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

// Noise for the embeddings of a batch of whole sequences, [T, D] (for a place of a sequence group
// that of its tokens), in the dtype and on the device of `embedding_VD` (Jain et al. 2023,
// arXiv:2310.05914):
//   uniform in (-m, m), m = alpha / sqrt(L D)
// where L is the length of a token's own sequence; transformers has the padded
// length of the micro-batch there, which is the same for rows of one length.
// Drawn from torch's default generator, so by the job's seed.
at::Tensor NeftuneNoise(const SequenceLayout& sequences, double alpha,
                        const at::Tensor& embedding_VD);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_NEFTUNE_H_
