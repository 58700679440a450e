#ifndef LIGER_SERVER_API_METRIC_POINTS_H_
#define LIGER_SERVER_API_METRIC_POINTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "liger/v1/fine_tuning.pb.h"
#include "server/store/read_view.h"
#include "server/store/records.h"

namespace liger::server {

// Most points in one answer: about 2 MB with TRL's names.
inline constexpr size_t kMaxMetricPoints = 10'000;

// The chunks with the steps that the request asks for: of one attempt or, where it names none, of
// all, the oldest first.
std::vector<MetricChunkRow> ChunksFor(const ReadView& view, const std::string& job_uid,
                                      const liger::v1::QueryMetricsRequest& request);

// The logged steps in `chunks` that the request asks for, by step: of each attempt those before
// the first one of the next, which went on from there or began anew. Beside TRL's
// names a point has step_seconds, tokens_per_second, tokens_total and epoch. A
// longer range is thinned evenly, keeping its first and last step, and says so.
absl::StatusOr<liger::v1::QueryMetricsResponse> ToPoints(
    const std::vector<MetricChunkRow>& chunks, const liger::v1::QueryMetricsRequest& request);

}  // namespace liger::server

#endif  // LIGER_SERVER_API_METRIC_POINTS_H_
