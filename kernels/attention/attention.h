#ifndef LIGER_KERNELS_ATTENTION_ATTENTION_H_
#define LIGER_KERNELS_ATTENTION_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace liger::kernels {

struct AttentionOptions {
  double scale = 0;    // of the scores, must be set; 1 / sqrt(H) in most models
  int64_t window = 0;  // keys that a query sees, its own included; 0: all up to its own
  double softcap = 0;  // scores become softcap * tanh(scores / softcap); 0: no cap
};

// Where each sequence's tokens lie: its queries are [query_offsets[s], query_offsets[s + 1])
// of all, its keys likewise. It has at least as many keys as queries, and its last query
// stands at its last key: what comes before are keys that another sequence asked with.
struct AttentionSpans {
  std::vector<int64_t> query_offsets, key_offsets;  // S + 1 numbers from 0, on the host
  // The same, int32 [S + 1] on the device of the call, whose values nobody checks. Undefined: made
  // at each call on a GPU.
  at::Tensor query_cu_seqlens, key_cu_seqlens;

  int64_t size() const { return static_cast<int64_t>(query_offsets.size()) - 1; }
  int64_t num_queries(int64_t s) const { return Length(query_offsets, s); }
  int64_t num_keys(int64_t s) const { return Length(key_offsets, s); }
  // Of the longest sequence; 0 without any.
  int64_t max_queries() const { return Longest(query_offsets); }
  int64_t max_keys() const { return Longest(key_offsets); }

 private:
  static int64_t Length(const std::vector<int64_t>& offsets, int64_t s);
  static int64_t Longest(const std::vector<int64_t>& offsets);
};

// Who computes. kAuto takes the fastest that is exact for the case, in this order.
enum class AttentionBackend {
  kAuto,
  // cuDNN's kernels: bfloat16 and float16 on a GPU of compute capability 9.0 or above, H a
  // multiple of 8 up to 128, a sequence of 1024 tokens or more, windows, no softcap; not where
  // deterministic algorithms are asked for. Plans for rounded-up sizes are built once, which
  // takes tens of milliseconds each.
  kCudnn,
  // FlashAttention-2 with cu_seqlens (Dao 2023, arXiv:2307.08691): bfloat16 and float16 on a
  // GPU, H a multiple of 8 up to 256, windows, no softcap.
  kFlash,
  // Our kernels in that manner, a little at a time in shared memory, for what those two do not
  // take: softcaps and float32 on a GPU, H whole 16 bytes up to 256 (above 128, in float32
  // above 64: on GPUs whose blocks have 163 KiB), windows. Its gradients are deterministic.
  kTiled,
  // PyTorch's flash kernel for CPUs, a call a sequence: no softcap.
  kCpuFlash,
  // Plain operations over 256 queries at a time, computed again in the backward pass: anything.
  kPlain,
};

// softmax(cap(scale q k^T) + mask) v within each sequence, causal: no token sees another
// sequence, or one after it. Query head n uses key and value head n / (N / K) (Ainslie et al.
// 2023, arXiv:2305.13245).
//
// query_QNH [Q, N, H], key_TKH and value_TKH [T, K, H], one floating dtype; one whose last
// dimension is not contiguous is copied, and for kCudnn, kFlash and kTiled one whose heads do not
// begin at 16 byte boundaries. Q and T are the last offsets. Returns [Q, N, H], contiguous. The
// scores of a sequence never exist as a whole: beyond the output, float32 [N, Q] (kTiled [N, Q, 2])
// is kept for the backward pass, which in kTiled takes float32 [N, Q] more; kPlain needs
// N x 256 x (longest sequence) numbers for a moment. Copies of unaligned heads are made in each
// pass.
//
// torch.use_deterministic_algorithms is obeyed. Throws c10::Error naming the argument for
// wrong shapes, offsets or options, and for a backend that does not take the case.
at::Tensor Attention(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                     const at::Tensor& value_TKH, const AttentionSpans& spans,
                     const AttentionOptions& options,
                     AttentionBackend backend = AttentionBackend::kAuto);

namespace baseline {

// The same as transformers' eager attention writes it: all scores of a sequence at once, the
// softmax in float32.
at::Tensor Attention(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                     const at::Tensor& value_TKH, const AttentionSpans& spans,
                     const AttentionOptions& options);

}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ATTENTION_ATTENTION_H_
