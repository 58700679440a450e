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

// One attempt's chunks that hold steps of [from_step, to_step] (0: to the end) before `end_step`.
void AddChunks(const ReadView& view, const std::string& job_uid, int64_t epoch,
               const liger::v1::QueryMetricsRequest& request, int64_t end_step,
               std::vector<CountedChunk>* chunks) {
  int64_t to_step = request.to_step();
  if (end_step != 0) {
    if (end_step <= std::max<int64_t>(request.from_step(), 1)) return;  // none is left
    to_step = to_step == 0 ? end_step - 1 : std::min(to_step, end_step - 1);
  }
  for (MetricChunkRow& row : view.MetricChunks(job_uid, epoch, request.from_step(), to_step)) {
    chunks->push_back({std::move(row), end_step});
  }
}

}  // namespace

std::vector<CountedChunk> ChunksFor(const ReadView& view, const std::string& job_uid,
                                    const liger::v1::QueryMetricsRequest& request) {
  std::vector<std::pair<int64_t, int64_t>> epochs;  // and where each one's steps end
  if (request.epoch() != 0) {
    epochs.emplace_back(request.epoch(), 0);
  } else {
    for (const AttemptRow& attempt : view.Attempts(job_uid)) epochs.emplace_back(attempt.epoch, 0);
    std::ranges::sort(epochs);
    int64_t end_step = 0;
    for (auto epoch = epochs.rbegin(); epoch != epochs.rend(); ++epoch) {
      epoch->second = end_step;
      const int64_t first = view.MetricsFromStep(job_uid, epoch->first);
      if (first != 0 && (end_step == 0 || first < end_step)) end_step = first;
    }
  }
  std::vector<CountedChunk> chunks;
  for (const auto& [epoch, end_step] : epochs) {
    AddChunks(view, job_uid, epoch, request, end_step, &chunks);
  }
  return chunks;
}

absl::StatusOr<liger::v1::QueryMetricsResponse> ToPoints(
    const std::vector<CountedChunk>& chunks, const liger::v1::QueryMetricsRequest& request) {
  const std::set<std::string> names(request.names().begin(), request.names().end());
  std::vector<liger::worker::v1::MetricSample> samples;
  for (const auto& [row, end_step] : chunks) {
    liger::worker::v1::MetricChunk chunk;
    if (!chunk.ParseFromString(row.blob)) {
      return absl::DataLossError("a stored metric chunk of job " + row.job_uid + " cannot be read");
    }
    for (liger::worker::v1::MetricSample& sample : *chunk.mutable_samples()) {
      const int64_t step = sample.step().step();
      if (step < request.from_step() || (end_step != 0 && step >= end_step)) continue;
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
