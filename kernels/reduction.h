#ifndef LIGER_KERNELS_REDUCTION_H_
#define LIGER_KERNELS_REDUCTION_H_

#include <string_view>

namespace liger::kernels {

// What becomes of the losses of rows or elements; the names in the dispatcher's schemas.
enum class Reduction {
  kNone,
  kSum,
  kMean,       // over all that the sum counts
  kBatchMean,  // of divergences: the sum over the number of rows
};

inline constexpr std::string_view ReductionName(Reduction reduction) {
  constexpr std::string_view kNames[] = {"none", "sum", "mean", "batchmean"};
  return kNames[static_cast<int>(reduction)];
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_REDUCTION_H_
