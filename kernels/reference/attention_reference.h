#ifndef LIGER_KERNELS_REFERENCE_ATTENTION_REFERENCE_H_
#define LIGER_KERNELS_REFERENCE_ATTENTION_REFERENCE_H_

#include "kernels/attention/attention.h"
#include "kernels/reference/reference.h"

// As reference.h: plain loops over float64.
namespace liger::kernels::reference {

// grads: of query, key and value.
Result Attention(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                 const at::Tensor& value_TKH, const AttentionSpans& spans,
                 const AttentionOptions& options, const at::Tensor& grad_QNH);

}  // namespace liger::kernels::reference

#endif  // LIGER_KERNELS_REFERENCE_ATTENTION_REFERENCE_H_
