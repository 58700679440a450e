#include "worker/trainer/loop/rank_agreement.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
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

}  // namespace liger::trainer
