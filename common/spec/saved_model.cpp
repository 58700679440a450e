#include "common/spec/saved_model.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace liger {

std::string SavedModelText(int64_t saved_step, const liger::v1::BestEvaluation& best) {
  std::string text = absl::StrCat("step ", saved_step);
  if (!best.metric().empty()) {
    const std::string value = absl::StrFormat("%.5g", best.value());
    if (best.step() == saved_step) {
      absl::StrAppend(&text, ", of the best ", best.metric(), " (", value, ")");
    } else {  // early stopping alone keeps the last one
      absl::StrAppend(&text, "; the best ", best.metric(), ", ", value, ", was that of step ",
                      best.step());
    }
  }
  if (best.stopped_after_step() > 0) {
    absl::StrAppend(&text, "; stopped early after step ", best.stopped_after_step());
  }
  return text;
}

std::string ResumedText(const liger::v1::ResumedFrom& resumed) {
  return absl::StrCat("goes on from ", resumed.checkpoint(), ", after step ", resumed.step());
}

}  // namespace liger
