#include "common/spec/kto_weights.h"

#include "absl/strings/str_format.h"

namespace liger {
namespace {

constexpr double kMostRatio = 4.0 / 3;
// What the advised bounds, as printed, may be beside the exact ones.
constexpr double kRounding = 0.005;

}  // namespace

std::string KtoWeightAdvice(const liger::v1::KtoMethod& kto, int64_t wanted, int64_t unwanted) {
  if (wanted == unwanted || wanted == 0 || unwanted == 0) return "";
  const double desirable = kto.has_desirable_weight() ? kto.desirable_weight() : 1;
  const double undesirable = kto.has_undesirable_weight() ? kto.undesirable_weight() : 1;
  const double rows = static_cast<double>(wanted) / static_cast<double>(unwanted);
  const double ratio = desirable * rows / undesirable;
  if (ratio >= 1 - kRounding && ratio <= kMostRatio + kRounding) return "";
  return absl::StrFormat(
      "of the training rows %d are wanted and %d are not, which kto.desirable_weight %g and "
      "kto.undesirable_weight %g do not balance; set kto.desirable_weight to %.3g to %.3g, or "
      "kto.undesirable_weight to %.3g to %.3g",
      wanted, unwanted, desirable, undesirable, undesirable / rows,
      kMostRatio * undesirable / rows, desirable * rows / kMostRatio, desirable * rows);
}

}  // namespace liger
