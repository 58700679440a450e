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

// A stored chunk of an attempt, of whose steps those before `end_step` count (0: all): from there
// on a later attempt's do, which went on from there or began anew.
struct CountedChunk {
  MetricChunkRow row;
  int64_t end_step = 0;
};

// The chunks with the steps that the request asks for: of one attempt or, where it names none, of
// all, the oldest first.
std::vector<CountedChunk> ChunksFor(const ReadView& view, const std::string& job_uid,
                                    const liger::v1::QueryMetricsRequest& request);

// The logged steps in `chunks` that count and that the request asks for. Beside TRL's
// names a point has step_seconds, tokens_per_second, tokens_total and epoch. A
// longer range is thinned evenly, keeping its first and last step, and says so.
absl::StatusOr<liger::v1::QueryMetricsResponse> ToPoints(
    const std::vector<CountedChunk>& chunks, const liger::v1::QueryMetricsRequest& request);

}  // namespace liger::server

#endif  // LIGER_SERVER_API_METRIC_POINTS_H_
