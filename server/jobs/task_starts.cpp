#include "server/jobs/task_starts.h"

#include <utility>

#include "common/spec/elastic.h"

namespace liger::server {
namespace {

TaskStart StartOf(const JobRow& job, const std::string& worker_id) {
  TaskStart start;
  start.worker_id = worker_id;
  start.resolved_spec = job.resolved_spec;
  start.spec_hash = job.spec_hash;
  return start;
}

}  // namespace

std::vector<TaskStart> TrainStarts(const JobRow& job, const AttemptRow& attempt,
                                   const std::vector<MemberRow>& members) {
  int world_size = 0;
  for (const MemberRow& member : members) world_size += static_cast<int>(member.ranks.size());
  std::vector<TaskStart> starts;
  for (const MemberRow& member : members) {
    TaskStart start = StartOf(job, member.worker_id);
    start.resolved_spec = OnDevices(std::move(start.resolved_spec), world_size);
    start.kind = liger::trainer::v1::TASK_KIND_TRAIN;
    start.ref.set_job_uid(job.uid);
    start.ref.set_epoch(attempt.epoch);
    start.ref.set_task_id("train");
    start.gang.set_node_rank(member.node_rank);
    start.gang.set_nnodes(static_cast<int>(members.size()));
    start.gang.set_world_size(world_size);
    start.resume_from = attempt.resume_from;
    for (size_t i = 0; i < member.ranks.size(); ++i) {
      auto& local = start.local_ranks.emplace_back();
      local.set_rank(member.ranks[i]);
      local.set_device_uuid(member.device_uuids[i]);
    }
    starts.push_back(std::move(start));
  }
  return starts;
}

TaskStart CheckStart(const JobRow& job, const TaskRow& task) {
  TaskStart start = StartOf(job, task.worker_id);
  start.kind = liger::trainer::v1::TASK_KIND_CHECK;
  start.ref.set_job_uid(job.uid);
  start.ref.set_task_id(task.task_id);
  start.gang.set_nnodes(1);
  start.gang.set_world_size(1);
  return start;
}

}  // namespace liger::server
