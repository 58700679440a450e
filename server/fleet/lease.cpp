#include "server/fleet/lease.h"

#include "absl/strings/str_cat.h"

namespace liger::server {

absl::Status LeaseTerms::Validate() const {
  if (absl::ZeroDuration() < heartbeat && heartbeat < fence && fence < reassign &&
      reassign < orphan_timeout) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "lease terms must satisfy 0 < --lease-heartbeat (", absl::FormatDuration(heartbeat),
      ") < --lease-fence (", absl::FormatDuration(fence), ") < --lease-reassign (",
      absl::FormatDuration(reassign), ") < --lease-orphan-timeout (",
      absl::FormatDuration(orphan_timeout), "): otherwise two workers could run one job"));
}

}  // namespace liger::server
