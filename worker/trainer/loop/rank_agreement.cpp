#include "worker/trainer/loop/rank_agreement.h"

#include <ATen/ATen.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

// Integers, whose sums do not hang on their order.
at::Tensor SumOfBits(const at::Tensor& parameter) {
  const at::Tensor flat = parameter.detach().contiguous().view(-1);
  return flat.view(flat.element_size() == 4 ? at::kInt : at::kShort).sum(at::kLong);
}

}  // namespace

void RequireAgreement(Strategy& strategy,
                      const std::vector<std::pair<std::string, std::string>>& facts) {
  if (strategy.alone()) return;
  std::string own;
  for (const auto& [name, value] : facts) absl::StrAppend(&own, value, "\n");
  const std::vector<std::string> all = strategy.Gather(own, "the comparison of ranks");
  const std::vector<std::string> first = absl::StrSplit(all[0], '\n');
  for (size_t rank = 1; rank < all.size(); ++rank) {
    const std::vector<std::string> other = absl::StrSplit(all[rank], '\n');
    for (size_t i = 0; i < facts.size(); ++i) {
      if (first.at(i) == other.at(i)) continue;
      throw ConfigError(absl::StrCat("rank ", rank, " differs from rank 0 in ", facts[i].first,
                                     ": ", other[i], " and ", first[i]),
                        "every rank must have the same trainer, job, model folder and data; look "
                        "at what lies on that rank's host");
    }
  }
}

std::string WeightsChecksum(const CausalLM& model) {
  const at::NoGradGuard no_grad;
  uint64_t checksum = 0;
  for (const auto& item : model.named_parameters()) {
    checksum = checksum * 31 + static_cast<uint64_t>(SumOfBits(item.value()).item<int64_t>());
  }
  return absl::StrCat(absl::Hex(checksum, absl::kZeroPad16));
}

}  // namespace liger::trainer
