#include <utility>

#include "server/store/apply.h"

namespace liger::server {

absl::StatusOr<AppendMetrics::Result> Run(const AppendMetrics& command, Transaction& txn) {
  for (const MetricChunkRow& chunk : command.chunks) {
    const int64_t known = txn.tables().MetricsThroughStep(chunk.job_uid, chunk.epoch);
    if (chunk.last_step <= known) continue;
    txn.tables().AddMetricChunk(chunk);
  }
  return AppendMetrics::Result{};
}

absl::StatusOr<PutLogFiles::Result> Run(const PutLogFiles& command, Transaction& txn) {
  for (const LogFileRow& file : command.files) txn.tables().PutLogFile(file);
  return PutLogFiles::Result{};
}

absl::StatusOr<ExpireRows::Result> Run(const ExpireRows& command, Transaction& txn) {
  ExpireRows::Result result;
  txn.tables().DropRequestsBefore(txn.now_us());
  for (const std::string& uid : txn.tables().JobsWithOldBulk(command.drop_metrics_before_us)) {
    for (LogFileRow& file : txn.tables().LogFiles(uid)) result.log_files.push_back(std::move(file));
    txn.tables().DropBulk(uid);
  }
  return result;
}

}  // namespace liger::server
