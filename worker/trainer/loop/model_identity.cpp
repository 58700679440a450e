#include "worker/trainer/loop/model_identity.h"

#include <ATen/ATen.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/file.h"
#include "worker/trainer/models/lora.h"

namespace liger::trainer {

// Integers, whose sums do not hang on their order.
int64_t SumOfBits(const at::Tensor& parameter) {
  const at::NoGradGuard no_grad;
  const at::Tensor flat = parameter.detach().contiguous().view(-1);
  return flat.view(flat.element_size() == 4 ? at::kInt : at::kShort).sum(at::kLong).item<int64_t>();
}

BitSums BitSumsOf(const CausalLM& model) {
  BitSums sums;
  for (const auto& item : model.named_parameters()) sums[item.key()] = SumOfBits(item.value());
  return sums;
}

std::string Checksum(const BitSums& sums) {
  if (sums.empty()) return "";
  uint64_t checksum = 0;
  for (const auto& [name, sum] : sums) checksum = checksum * 31 + static_cast<uint64_t>(sum);
  return absl::StrCat(absl::Hex(checksum, absl::kZeroPad16));
}

std::string ShapesDigest(const CausalLM& model) {
  std::map<std::string, std::string> shapes;
  for (const auto& item : model.named_parameters()) {
    if (IsAdapterParameter(item.key())) continue;
    shapes[item.key()] = absl::StrJoin(item.value().sizes(), ",");
  }
  return Sha256(absl::StrJoin(shapes, "\n", absl::PairFormatter(" ")));
}

}  // namespace liger::trainer
