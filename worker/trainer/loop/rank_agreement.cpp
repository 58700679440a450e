#include "worker/trainer/loop/rank_agreement.h"

#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "worker/trainer/error.h"

namespace liger::trainer {

std::string DifferenceOf(const Facts& first, const Facts& other) {
  const std::map<std::string, std::string> of_first(first.begin(), first.end());
  const std::map<std::string, std::string> of_other(other.begin(), other.end());
  std::string untold;
  for (const auto& [name, value] : first) {
    const auto it = of_other.find(name);
    if (it == of_other.end()) {
      if (untold.empty()) untold = absl::StrCat(name, ": nothing and ", value);
    } else if (it->second != value) {
      return absl::StrCat(name, ": ", it->second, " and ", value);
    }
  }
  for (const auto& [name, value] : other) {
    if (!untold.empty()) break;
    if (!of_first.contains(name)) untold = absl::StrCat(name, ": ", value, " and nothing");
  }
  return untold;
}

void RequireAgreement(Strategy& strategy, const Facts& facts) {
  if (strategy.alone()) return;
  using nlohmann::json;
  const std::string own = json(facts).dump(-1, ' ', false, json::error_handler_t::replace);
  const std::vector<std::string> all = strategy.Gather(own, "the comparison of ranks");
  const auto first = json::parse(all[0]).get<Facts>();
  for (size_t rank = 1; rank < all.size(); ++rank) {
    const std::string difference = DifferenceOf(first, json::parse(all[rank]).get<Facts>());
    if (difference.empty()) continue;
    throw ConfigError(absl::StrCat("rank ", rank, " differs from rank 0 in ", difference),
                      "every rank must have the same trainer, job, model folder and data; look "
                      "at what lies on that rank's host")
        .FirstFailedRank(static_cast<int>(rank));
  }
}

}  // namespace liger::trainer
