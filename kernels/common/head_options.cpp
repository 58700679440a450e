#include "kernels/common/head_options.h"

#include <c10/util/Exception.h>

#include <cmath>

namespace liger::kernels {

void CheckHeadMap(const char* op, const HeadMap& map) {
  TORCH_CHECK_VALUE(map.softcap >= 0 && std::isfinite(map.softcap), op, ": softcap is ",
                    map.softcap, ", expected a positive number, or 0 for none");
  TORCH_CHECK_VALUE(map.temperature > 0 && std::isfinite(map.temperature), op, ": temperature is ",
                    map.temperature, ", expected a positive number");
}

void CheckValidRows(const char* op, const std::optional<at::Tensor>& valid_rows,
                    const at::Tensor& hidden) {
  if (!valid_rows.has_value()) return;
  const Arg arg{op, "valid_rows", *valid_rows};
  CheckDtype(arg, at::kLong);
  CheckDim(arg, 1);
  CheckSameDevice(arg, {op, "hidden", hidden});
}

}  // namespace liger::kernels
