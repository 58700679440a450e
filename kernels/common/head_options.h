#ifndef LIGER_KERNELS_COMMON_HEAD_OPTIONS_H_
#define LIGER_KERNELS_COMMON_HEAD_OPTIONS_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/common/check.h"
#include "kernels/common/logits_options.h"

namespace liger::kernels {

// What the softmax of a linear head is of: softcap tanh(z / softcap) / temperature, or
// z / temperature where softcap is 0.
struct HeadMap {
  double softcap = 0;
  double temperature = 1;

  bool identity() const { return softcap == 0 && temperature == 1; }
  LogitsOptions ToLogitsOptions(int64_t ignore_index, bool token_stats) const {
    return {.ignore_index = ignore_index,
            .softcap = softcap,
            .scale = 1 / temperature,
            .token_stats = token_stats};
  }
};

void CheckHeadMap(const char* op, const HeadMap& map);

// int64 [M] on hidden's device.
void CheckValidRows(const char* op, const std::optional<at::Tensor>& valid_rows,
                    const at::Tensor& hidden);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_HEAD_OPTIONS_H_
