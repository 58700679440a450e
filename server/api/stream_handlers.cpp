#include <memory>

#include "server/api/fine_tuning_service.h"
#include "server/api/log_stream.h"
#include "server/api/reply.h"
#include "server/api/watch_stream.h"

namespace liger::server {
namespace {

// A stream that ends before it begins.
template <typename Response>
class RefusedStream : public grpc::ServerWriteReactor<Response> {
 public:
  explicit RefusedStream(const absl::Status& status) { this->Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

absl::Status CheckTail(const liger::v1::TailLogsRequest& request) {
  if (absl::Status status = CheckJobField(request.job()); !status.ok()) return status;
  if (request.rank() < 0) return InvalidArgument("rank", "must not be negative");
  if (request.attempt() < 0) return InvalidArgument("attempt", "must not be negative");
  if (request.tail_bytes() < 0) return InvalidArgument("tail_bytes", "must not be negative");
  return absl::OkStatus();
}

}  // namespace

grpc::ServerWriteReactor<liger::v1::WatchJobsResponse>* FineTuningService::WatchJobs(
    grpc::CallbackServerContext* context, const liger::v1::WatchJobsRequest* request) {
  if (request->from_revision() < 0) {
    return new RefusedStream<liger::v1::WatchJobsResponse>(
        InvalidArgument("from_revision", "must not be negative"));
  }
  auto stream =
      std::make_shared<WatchStream>(b_.store, b_.hub, PrincipalOf(*context).tenant, *request);
  stream->Begin();
  b_.streams->Add(stream);
  return stream.get();
}

grpc::ServerWriteReactor<liger::v1::TailLogsResponse>* FineTuningService::TailLogs(
    grpc::CallbackServerContext* context, const liger::v1::TailLogsRequest* request) {
  if (absl::Status status = CheckTail(*request); !status.ok()) {
    return new RefusedStream<liger::v1::TailLogsResponse>(status);
  }
  auto stream = std::make_shared<LogStream>(b_.store, b_.logs, b_.files,
                                            PrincipalOf(*context).tenant, *request);
  stream->Begin();
  b_.streams->Add(stream);
  return stream.get();
}

}  // namespace liger::server
