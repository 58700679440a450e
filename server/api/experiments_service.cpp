#include "server/api/experiments_service.h"

#include <utility>

#include "server/api/held_call.h"
#include "server/api/metric_points.h"
#include "server/api/reply.h"

namespace liger::server {
namespace {

using liger::v1::CreateExperimentResponse;
using liger::v1::Experiment;

constexpr int kDefaultExperiments = 50;
constexpr int kMostExperiments = 500;

absl::Status CheckExperimentField(const std::string& experiment) {
  if (!experiment.empty()) return absl::OkStatus();
  return InvalidArgument("experiment", "must be an experiment's name or uid");
}

absl::StatusOr<liger::v1::Run> ReadRun(const ReadView& view, const std::string& tenant,
                                       const std::string& name_or_uid) {
  absl::StatusOr<JobRow> row = FindJob(view, tenant, name_or_uid);
  if (!row.ok()) {
    // An experiment still tells of a job that was deleted.
    const std::optional<JobRow> deleted = view.Job(name_or_uid);
    if (!deleted.has_value() || deleted->tenant != tenant) return row.status();
    row = *deleted;
  }
  const liger::v1::QueryMetricsRequest all;
  absl::StatusOr<liger::v1::QueryMetricsResponse> points =
      ToPoints(ChunksFor(view, row->uid, all), all);
  if (!points.ok()) return points.status();
  liger::v1::Run run;
  *run.mutable_job() = ToProto(view, *row);
  run.mutable_points()->Swap(points->mutable_points());
  run.set_thinned(points->thinned());
  if (auto environment = view.Environment(row->uid, row->epoch)) {
    *run.mutable_environment() = *std::move(environment);
  }
  return run;
}

}  // namespace

grpc::ServerUnaryReactor* ExperimentsApi::CreateExperiment(
    grpc::CallbackServerContext* context, const liger::v1::CreateExperimentRequest* request,
    CreateExperimentResponse* response) {
  if (!request->has_spec()) return Refuse(context, InvalidArgument("spec", "must be set"));
  if (absl::Status s = CheckRequestId(request->request_id()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  ExperimentService::CreateCall create{principal.tenant, ActorOf(principal), request->spec(),
                                       request->request_id()};
  auto call = HeldCall<CreateExperimentResponse>::Start(response);
  auto done = [call](absl::StatusOr<CreateExperimentResponse> result) {
    call->Answer(std::move(result));
  };
  if (request->validate_only()) {
    call->SetGiveUp(experiments_.Validate(std::move(create), done));
  } else {
    experiments_.Create(std::move(create), done);
  }
  return call.get();
}

grpc::ServerUnaryReactor* ExperimentsApi::GetExperiment(
    grpc::CallbackServerContext* context, const liger::v1::GetExperimentRequest* request,
    Experiment* response) {
  if (absl::Status s = CheckExperimentField(request->experiment()); !s.ok()) {
    return Refuse(context, s);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  store_.Read<Experiment>(
      [tenant = PrincipalOf(*context).tenant,
       name = request->experiment()](const ReadView& view) -> absl::StatusOr<Experiment> {
        const absl::StatusOr<ExperimentRow> row = FindExperiment(view, tenant, name);
        if (!row.ok()) return row.status();
        return ToProto(view, *row);
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* ExperimentsApi::ListExperiments(
    grpc::CallbackServerContext* context, const liger::v1::ListExperimentsRequest* request,
    liger::v1::ListExperimentsResponse* response) {
  absl::StatusOr<int> size = PageSize(request->page_size(), kDefaultExperiments, kMostExperiments);
  if (!size.ok()) return Refuse(context, size.status());
  ExperimentQuery query{PrincipalOf(*context).tenant, *size, request->page_token()};
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  store_.Read<liger::v1::ListExperimentsResponse>(
      [query = std::move(query)](
          const ReadView& view) -> absl::StatusOr<liger::v1::ListExperimentsResponse> {
        absl::StatusOr<ExperimentPage> page = view.ListExperiments(query);
        if (!page.ok()) return page.status();
        liger::v1::ListExperimentsResponse list;
        for (const ExperimentRow& row : page->experiments) {
          Experiment* experiment = list.add_experiments();
          *experiment = ToProto(view, row);
          experiment->clear_points();
          experiment->clear_jobs();
        }
        list.set_next_page_token(page->next_page_token);
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* ExperimentsApi::CancelExperiment(
    grpc::CallbackServerContext* context, const liger::v1::CancelExperimentRequest* request,
    Experiment* response) {
  if (absl::Status s = CheckExperimentField(request->experiment()); !s.ok()) {
    return Refuse(context, s);
  }
  if (absl::Status s = CheckReason(request->reason()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  experiments_.Cancel(principal.tenant, ActorOf(principal), request->experiment(),
                      request->reason(), ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* ExperimentsApi::DeleteExperiment(
    grpc::CallbackServerContext* context, const liger::v1::DeleteExperimentRequest* request,
    liger::v1::DeleteExperimentResponse* response) {
  if (absl::Status s = CheckExperimentField(request->experiment()); !s.ok()) {
    return Refuse(context, s);
  }
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  experiments_.Delete(principal.tenant, ActorOf(principal), request->experiment(),
                      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* ExperimentsApi::GetRun(grpc::CallbackServerContext* context,
                                                 const liger::v1::GetRunRequest* request,
                                                 liger::v1::Run* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  store_.Read<liger::v1::Run>([tenant = PrincipalOf(*context).tenant, job = request->job()](
                                  const ReadView& view) { return ReadRun(view, tenant, job); },
                              ReplyTo(reactor, response));
  return reactor;
}

}  // namespace liger::server
