#include <ATen/ATen.h>

#include "kernels/attention/backends.h"
#include "kernels/common/record.h"

namespace liger::kernels::baseline {

at::Tensor Attention(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                     const at::Tensor& value_TKH, const AttentionSpans& spans,
                     const AttentionOptions& options) {
  RecordPath(Op::kAttention, Path::kBaseline);
  std::vector<at::Tensor> outs;
  for (int64_t s = 0; s < spans.size(); ++s) {
    const auto i = static_cast<size_t>(s);
    const int64_t first_key = spans.key_offsets[i], last_key = spans.key_offsets[i + 1];
    outs.push_back(PlainRows(query_QNH.slice(0, spans.query_offsets[i], spans.query_offsets[i + 1]),
                             spans.num_keys(s) - spans.num_queries(s),
                             key_TKH.slice(0, first_key, last_key),
                             value_TKH.slice(0, first_key, last_key), 0, options));
  }
  return outs.empty() ? query_QNH.contiguous() : at::cat(outs);
}

}  // namespace liger::kernels::baseline
