#include <algorithm>
#include <utility>
#include <vector>

#include "server/api/fine_tuning_service.h"
#include "server/api/metric_points.h"
#include "server/api/reply.h"

namespace liger::server {
namespace {

constexpr int kDefaultEvents = 200;
constexpr int kMostEvents = 1000;

// The checks that a range of steps can fail.
absl::Status CheckSteps(const liger::v1::QueryMetricsRequest& request) {
  if (absl::Status status = CheckJobField(request.job()); !status.ok()) return status;
  if (request.from_step() < 0) return InvalidArgument("from_step", "must not be negative");
  if (request.to_step() != 0 && request.to_step() < request.from_step()) {
    return InvalidArgument("to_step", "must be 0 (to the end) or at least from_step");
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* FineTuningService::ListEvents(grpc::CallbackServerContext* context,
                                                        const liger::v1::ListEventsRequest* request,
                                                        liger::v1::ListEventsResponse* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  absl::StatusOr<int> page_size = PageSize(request->page_size(), kDefaultEvents, kMostEvents);
  if (!page_size.ok()) return Refuse(context, page_size.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::ListEventsResponse>(
      [tenant = PrincipalOf(*context).tenant, job = request->job(), limit = *page_size,
       after = request->after_seq()](
          const ReadView& view) -> absl::StatusOr<liger::v1::ListEventsResponse> {
        absl::StatusOr<JobRow> row = FindJob(view, tenant, job);
        if (!row.ok()) return row.status();
        // One more than asked for tells whether there is a next page.
        std::vector<liger::v1::JobEvent> events = view.Events(row->uid, after, limit + 1);
        const bool more = events.size() > static_cast<size_t>(limit);
        if (more) events.pop_back();
        liger::v1::ListEventsResponse list;
        if (more) list.set_next_after_seq(events.back().seq());
        for (liger::v1::JobEvent& event : events) *list.add_events() = std::move(event);
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::QueryMetrics(
    grpc::CallbackServerContext* context, const liger::v1::QueryMetricsRequest* request,
    liger::v1::QueryMetricsResponse* response) {
  if (absl::Status s = CheckSteps(*request); !s.ok()) return Refuse(context, s);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::QueryMetricsResponse>(
      [tenant = PrincipalOf(*context).tenant, request = *request](
          const ReadView& view) -> absl::StatusOr<liger::v1::QueryMetricsResponse> {
        absl::StatusOr<JobRow> row = FindJob(view, tenant, request.job());
        if (!row.ok()) return row.status();
        const absl::Status there = RequireAttempt(view, *row, request.epoch());
        if (!there.ok()) return there;
        return ToPoints(ChunksFor(view, row->uid, request), request);
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::ListArtifacts(
    grpc::CallbackServerContext* context, const liger::v1::ListArtifactsRequest* request,
    liger::v1::ListArtifactsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::ListArtifactsResponse>(
      [tenant = PrincipalOf(*context).tenant, job = request->job()](
          const ReadView& view) -> absl::StatusOr<liger::v1::ListArtifactsResponse> {
        std::string uid;
        if (!job.empty()) {
          absl::StatusOr<JobRow> row = FindJob(view, tenant, job);
          if (!row.ok()) return row.status();
          uid = row->uid;
        }
        liger::v1::ListArtifactsResponse list;
        for (const ArtifactRow& row : view.Artifacts(tenant, uid)) {
          if (row.visible) *list.add_artifacts() = ToProto(row);
        }
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

}  // namespace liger::server
