#ifndef LIGER_KERNELS_ATTENTION_BACKENDS_H_
#define LIGER_KERNELS_ATTENTION_BACKENDS_H_

#include "kernels/attention/attention.h"

// The implementations behind Attention, a file each. All are differentiable, and made of
// dispatcher ops with shape functions, so that fake tensors pass through.
namespace liger::kernels {

inline constexpr char kAttention[] = "attention";  // in messages

struct AttentionCall {
  const at::Tensor &query_QNH, &key_TKH, &value_TKH;
  const AttentionSpans& spans;
  const AttentionOptions& options;
};

// `given`, or int32 offsets on the device of `like`, which the host does not wait for.
at::Tensor CuSeqlens(const at::Tensor& given, const std::vector<int64_t>& offsets,
                     const at::Tensor& like);

// Heads as the GPU's kernels read them, 16 bytes at once: the tensor, or a contiguous copy
// where a head's numbers have gaps or do not begin at such a boundary.
at::Tensor WithAlignedHeads(const at::Tensor& x_TNH);
// Refuses what is not [Q, N, H], [T, K, H] and [T, K, H] of one dtype and device, for the ops
// behind the backends, which others may call.
void CheckHeads(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                const at::Tensor& value_TKH);
// Refuses options that no backend takes.
void CheckOptions(const AttentionOptions& options);
// Refuses a gradient or output that is not like the query, and other than float32 stats.
void CheckBackward(const at::Tensor& grad_QNH, const at::Tensor& query_QNH,
                   const at::Tensor& out_QNH, const at::Tensor& stats,
                   c10::SymIntArrayRef stats_shape, const char* meaning);

bool CudnnTakes(const AttentionCall& call);
// Undefined where cuDNN turns out to have no plan.
at::Tensor CudnnAttention(const AttentionCall& call);

bool FlashTakes(const AttentionCall& call);
at::Tensor FlashAttention(const AttentionCall& call);

bool TiledTakes(const AttentionCall& call);
at::Tensor TiledAttention(const AttentionCall& call);

bool CpuFlashTakes(const AttentionCall& call);
at::Tensor CpuFlashAttention(const AttentionCall& call);

at::Tensor PlainAttention(const AttentionCall& call);

// Queries [first, first + Q) of a sequence, counted from its first key, against its keys
// [key_first, key_first + L), by plain operations: all Q x L scores at once.
at::Tensor PlainRows(const at::Tensor& query_QNH, int64_t first, const at::Tensor& key_LKH,
                     const at::Tensor& value_LKH, int64_t key_first,
                     const AttentionOptions& options);

// Tokens [begin, end) as the [1, heads, L, H] that PyTorch's attention takes.
inline at::Tensor HeadsFirst(const at::Tensor& x_TNH, int64_t begin, int64_t end) {
  return x_TNH.slice(0, begin, end).transpose(0, 1).unsqueeze(0);
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ATTENTION_BACKENDS_H_
