#include "server/api/metric_points.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "liger/worker/v1/worker.pb.h"

namespace liger::server {
namespace {

using liger::v1::MetricPoint;

MetricPoint ToPoint(const liger::worker::v1::MetricSample& sample,
                    const std::set<std::string>& names) {
  MetricPoint point;
  point.set_step(sample.step().step());
  *point.mutable_time() = sample.time();
  const auto put = [&](const std::string& name, double value) {
    if (names.empty() || names.contains(name)) (*point.mutable_values())[name] = value;
  };
  put("epoch", sample.step().epoch());
  put("step_seconds", sample.step().step_seconds());
  put("tokens_per_second", sample.step().tokens_per_second());
  put("tokens_total", static_cast<double>(sample.step().tokens_total()));
  for (const auto& [name, value] : sample.step().values()) put(name, value);
  return point;
}

}  // namespace

std::vector<MetricChunkRow> ChunksFor(const ReadView& view, const std::string& job_uid,
                                      const liger::v1::QueryMetricsRequest& request) {
  std::vector<int64_t> epochs;
  if (request.epoch() != 0) {
    epochs.push_back(request.epoch());
  } else {
    for (const AttemptRow& attempt : view.Attempts(job_uid)) epochs.push_back(attempt.epoch);
    std::ranges::sort(epochs);
  }
  // An attempt's first step, which may be before those asked for, ends the one before.
  const int64_t from_step = epochs.size() > 1 ? 0 : request.from_step();
  std::vector<MetricChunkRow> chunks;
  for (const int64_t epoch : epochs) {
    for (MetricChunkRow& chunk : view.MetricChunks(job_uid, epoch, from_step, request.to_step())) {
      chunks.push_back(std::move(chunk));
    }
  }
  return chunks;
}

absl::StatusOr<liger::v1::QueryMetricsResponse> ToPoints(
    const std::vector<MetricChunkRow>& chunks, const liger::v1::QueryMetricsRequest& request) {
  const std::set<std::string> names(request.names().begin(), request.names().end());
  std::vector<liger::worker::v1::MetricSample> samples;
  int64_t epoch = 0;
  for (const MetricChunkRow& row : chunks) {
    if (row.epoch != std::exchange(epoch, row.epoch)) {
      std::erase_if(samples, [&](const liger::worker::v1::MetricSample& sample) {
        return sample.step().step() >= row.first_step;
      });
    }
    liger::worker::v1::MetricChunk chunk;
    if (!chunk.ParseFromString(row.blob)) {
      return absl::DataLossError("a stored metric chunk of job " + row.job_uid + " cannot be read");
    }
    for (liger::worker::v1::MetricSample& sample : *chunk.mutable_samples()) {
      const int64_t step = sample.step().step();
      if (step < request.from_step()) continue;
      if (request.to_step() != 0 && step > request.to_step()) continue;
      samples.push_back(std::move(sample));
    }
  }

  liger::v1::QueryMetricsResponse response;
  const size_t count = std::min(samples.size(), kMaxMetricPoints);
  response.set_thinned(count < samples.size());
  for (size_t i = 0; i < count; ++i) {
    const size_t index = count == samples.size() ? i : i * (samples.size() - 1) / (count - 1);
    *response.add_points() = ToPoint(samples[index], names);
  }
  return response;
}

}  // namespace liger::server
