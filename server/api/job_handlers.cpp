#include <functional>
#include <memory>
#include <utility>

#include "server/api/fine_tuning_service.h"
#include "server/api/held_call.h"
#include "server/api/reply.h"
#include "server/store/attempts.h"

namespace liger::server {
namespace {

constexpr int kDefaultJobs = 50;
constexpr int kMostJobs = 500;

liger::v1::CreateJobResponse ToResponse(JobService::SubmitResult result) {
  liger::v1::CreateJobResponse response;
  *response.mutable_job() = std::move(result.job);
  response.mutable_notices()->Assign(result.notices.begin(), result.notices.end());
  response.mutable_warnings()->Assign(result.warnings.begin(), result.warnings.end());
  response.mutable_checks_run()->Assign(result.checks_run.begin(), result.checks_run.end());
  response.mutable_checks_skipped()->Assign(result.checks_skipped.begin(),
                                            result.checks_skipped.end());
  return response;
}

absl::Status CheckCreate(const liger::v1::CreateJobRequest& request) {
  if (!request.has_spec()) return InvalidArgument("spec", "must be set");
  return CheckRequestId(request.request_id());
}

}  // namespace

grpc::ServerUnaryReactor* FineTuningService::CreateJob(grpc::CallbackServerContext* context,
                                                       const liger::v1::CreateJobRequest* request,
                                                       liger::v1::CreateJobResponse* response) {
  if (absl::Status status = CheckCreate(*request); !status.ok()) return Refuse(context, status);
  const Principal principal = PrincipalOf(*context);
  JobService::SubmitRequest submit{principal.tenant, ActorOf(principal), request->spec(),
                                   request->request_id()};
  auto call = HeldCall<liger::v1::CreateJobResponse>::Start(response);
  auto done = [call](absl::StatusOr<JobService::SubmitResult> result) {
    if (!result.ok()) return call->Answer(result.status());
    call->Answer(ToResponse(*std::move(result)));
  };
  if (request->validate_only()) {
    call->SetGiveUp(b_.jobs->Validate(std::move(submit), done));
  } else {
    b_.jobs->Submit(std::move(submit), done);
  }
  return call.get();
}

grpc::ServerUnaryReactor* FineTuningService::CancelJob(grpc::CallbackServerContext* context,
                                                       const liger::v1::CancelJobRequest* request,
                                                       liger::v1::Job* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  if (absl::Status s = CheckReason(request->reason()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.jobs->Cancel(principal.tenant, ActorOf(principal), request->job(), request->reason(),
                  ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::PauseJob(grpc::CallbackServerContext* context,
                                                      const liger::v1::PauseJobRequest* request,
                                                      liger::v1::Job* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  if (absl::Status s = CheckReason(request->reason()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.jobs->Pause(principal.tenant, ActorOf(principal), request->job(), request->reason(),
                 ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::ResumeJob(grpc::CallbackServerContext* context,
                                                       const liger::v1::ResumeJobRequest* request,
                                                       liger::v1::Job* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.jobs->Resume(principal.tenant, ActorOf(principal), request->job(), ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::DeleteJob(grpc::CallbackServerContext* context,
                                                       const liger::v1::DeleteJobRequest* request,
                                                       liger::v1::DeleteJobResponse* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.jobs->Delete(principal.tenant, ActorOf(principal), request->job(), request->delete_output(),
                  [reactor, logs = b_.logs, files = b_.files](
                      const absl::StatusOr<liger::server::DeleteJob::Result>& result) {
                    if (result.ok()) {
                      files->Run([logs, uid = result->job_uid] { (void)logs->Remove(uid); });
                    }
                    reactor->Finish(ToGrpc(result.status()));
                  });
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::GetJob(grpc::CallbackServerContext* context,
                                                    const liger::v1::GetJobRequest* request,
                                                    liger::v1::Job* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::Job>(
      [tenant = PrincipalOf(*context).tenant, job = request->job(),
       fleet = b_.fleet](const ReadView& view) -> absl::StatusOr<liger::v1::Job> {
        absl::StatusOr<JobRow> row = FindJob(view, tenant, job);
        if (!row.ok()) return row.status();
        liger::v1::Job found = ToProto(view, *row);
        if (row->state != liger::v1::JobStatus::RUNNING) return found;
        if (const auto idle = fleet->IdleTime(TrainRef(row->uid, row->epoch))) {
          found.mutable_status()->mutable_progress()->set_idle_seconds(
              absl::ToDoubleSeconds(*idle));
        }
        return found;
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::ListJobs(grpc::CallbackServerContext* context,
                                                      const liger::v1::ListJobsRequest* request,
                                                      liger::v1::ListJobsResponse* response) {
  absl::StatusOr<int> page_size = PageSize(request->page_size(), kDefaultJobs, kMostJobs);
  if (!page_size.ok()) return Refuse(context, page_size.status());
  absl::StatusOr<JobFilter> filter = ParseJobFilter(request->filter());
  if (!filter.ok()) return Refuse(context, filter.status());
  JobQuery query{PrincipalOf(*context).tenant, *std::move(filter), *page_size,
                 request->page_token()};
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::ListJobsResponse>(
      [query =
           std::move(query)](const ReadView& view) -> absl::StatusOr<liger::v1::ListJobsResponse> {
        absl::StatusOr<JobPage> page = view.ListJobs(query);
        if (!page.ok()) return page.status();
        liger::v1::ListJobsResponse list;
        for (const JobRow& row : page->jobs) *list.add_jobs() = ToProto(view, row);
        list.set_next_page_token(page->next_page_token);
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

}  // namespace liger::server
