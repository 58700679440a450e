#ifndef LIGER_WORKER_TRAINER_MODELS_SHARED_PREFIXES_H_
#define LIGER_WORKER_TRAINER_MODELS_SHARED_PREFIXES_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace liger::trainer {

// Sequences of one batch often begin alike: with the same system prompt, or as
// two answers to one prompt. In a causal model a token's hidden state depends
// on the tokens up to it alone, so what several sequences begin with is
// computed once, and the keys and values of it serve all of them. Nothing is
// approximated; sums are only taken in another order. (Wang et al. 2024,
// arXiv:2410.20305, do so for the pairs of DPO.)
//
// Suffixes as in causal_lm.h's legend: T tokens of the batch, U of them computed.
struct SharedPrefixes {
  // Tokens at the start of each sequence that another sequence computes; every
  // sequence computes its last token itself, at least.
  std::vector<int64_t> prefix_S;
  // The others lie one sequence after the other, in the batch's order.
  std::vector<int64_t> own_offsets_S1;  // on the host
  int64_t max_own = 0;

  // On the compute device:
  at::Tensor own_cu_seqlens_S1;  // int32, own_offsets_S1
  at::Tensor computed_T;         // int64: which of the U computed tokens serves token t
  at::Tensor owner_U;            // int64: the token t that owns u, the inverse of computed_T
  // Tokens in a prefix that another sequence computes (M of them), and the
  // computed tokens that serve them (R, rising): repeat_M is the token,
  // slot_M which of the R serves it, repeated_R its place in U.
  at::Tensor repeat_M, slot_M, repeated_R;

  int64_t num_computed() const { return own_offsets_S1.back(); }

  // Of sequence s = tokens [offsets[s], offsets[s + 1]) of `input_ids_T`
  // (int64, on the host), whose positions all start at 0. None when less than
  // 1 in 32 tokens would be saved, which does not pay for the copies.
  static std::shared_ptr<const SharedPrefixes> Find(const at::Tensor& input_ids_T,
                                                    const std::vector<int64_t>& offsets_S1,
                                                    at::Device device);
};

// [U, ..] to [T, ..]: to every token what was computed for it. The backward
// pass sums the gradients of a shared token in fp32 (or fp64); under
// at::globalContext().deterministicAlgorithms() always in the same order.
at::Tensor ToAllTokens(const at::Tensor& x_U, const SharedPrefixes& shared);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_SHARED_PREFIXES_H_
