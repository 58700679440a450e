#ifndef LIGER_SERVER_SCHEDULER_SCHEDULER_H_
#define LIGER_SERVER_SCHEDULER_SCHEDULER_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/spec/memory_needs.h"
#include "server/store/records.h"
#include "server/store/worker_files.h"

// The scheduler: a pure function from a snapshot to decisions. It holds no
// state, reads no clock and draws no random numbers; equal snapshots give
// equal decisions.
//
// Policy: FIFO by creation, gangs all or nothing, on as few workers as can be. A
// gang's workers run one build, and its GPUs are of one type unless the job lets
// them mix; a device that failed is given to nobody. A job with parallel.elastic that
// has run before takes fewer devices where the fleet has not as many as it asks for. A
// job that cannot run now keeps later jobs away from the workers that it waits for, and
// from those only; a job that could never run as the fleet stands holds up nobody.
namespace liger::server {

struct ScheduleSnapshot {
  std::vector<JobRow> jobs;             // VALIDATING, QUEUED and RECOVERING count
  std::vector<WorkerRow> workers;       // every worker ever seen
  std::vector<MemberRow> occupied;      // unreleased members: their devices are taken
  std::vector<TaskRow> running_checks;  // CHECK tasks now on workers, dry runs too
  // READY workers without a session just now, or draining. Nothing is sent
  // there, but what they have still counts.
  std::set<std::string> unavailable;
  // Workers that are there and get nothing all the same, and why: they say so themselves, until
  // they are mended; or they failed what they got before it began, and get nothing for a while.
  std::map<std::string, std::string> unfit;
  std::map<std::string, std::string> resting;
  // Workers that get one task now, which shows whether they are well again.
  std::set<std::string> probing;
  // Workers on which a CHECK or an attempt of a job failed for want of infrastructure: {job_uid,
  // worker_id}. Another one that fits is taken instead, if it is free; jobs that failed lately
  // wait for it, too.
  std::set<std::pair<std::string, std::string>> failed_on;
  std::set<std::string> failed_lately;  // job_uids
  // Workers that passed a job's CHECK: they can read its files.
  std::set<std::pair<std::string, std::string>> checked;  // {job_uid, worker_id}
  // What their CHECKs predicted, by job_uid: GPUs that do not hold that are not taken.
  std::map<std::string, MemoryNeeds> memory;
  // Placements not to be tried again yet: the worker did not start the job, and
  // what was said then.
  std::map<std::pair<std::string, std::string>, std::string> excluded;  // {job_uid, worker_id}
  // Checkpoints that jobs go on from, by job_uid. Not a constraint: a worker that
  // cannot read one starts the job again.
  std::map<std::string, std::string> checkpoints;
  // Devices that jobs should take, by job_uid: {worker_id, device_uuids}. Of a
  // worker that is not READY, or has no such device any more, it does not count.
  std::map<std::string, std::pair<std::string, std::vector<std::string>>> pins;
  // URIs from the catalog. Only a worker whose inventory lists one may use it.
  // For other URIs (paths that the user typed) that holds when some READY worker
  // lists it; otherwise who passed the job's CHECK can read it, and before the
  // CHECK anyone may try.
  std::set<std::string> catalog_uris;
  // Jobs' names by uid, for explanations that name who holds a device.
  std::vector<std::pair<std::string, std::string>> job_names;
  int max_checks_per_worker = 2;
};

// Run this job's CHECK on this worker. Takes no device.
struct CheckDecision {
  std::string job_uid;
  std::string worker_id;
};

// One worker's part of a placement.
struct PlacedMember {
  std::string worker_id;
  std::vector<std::string> device_uuids;
};

// Start an attempt of this job there: ranks in order, one a device.
struct PlacementDecision {
  std::string job_uid;
  std::vector<PlacedMember> members;
};

// Why a job stays where it is.
struct WaitDecision {
  std::string job_uid;
  // NoWorker, ModelAbsent, DatasetAbsent, NoSuchDevice, TooFewDevices, DeviceMemory,
  // MixedDevices, LoopbackAddress, MixedBuilds: nothing but a change of the fleet helps ("can
  // never"). DevicesBusy, BehindOtherJobs, CheckSlotsBusy, WorkerRefused,
  // WorkerUnfit, WorkerAway: passes by itself ("cannot now").
  std::string reason;
  std::string message;
  std::string action;  // empty: just wait
  bool can_never = false;
  // DeviceMemory of a job that never ran, where no worker that was ever seen has a device that
  // is large enough: it is the job that has to change.
  bool refused = false;
};

struct ScheduleDecisions {
  std::vector<CheckDecision> checks;
  std::vector<PlacementDecision> placements;
  std::vector<WaitDecision> waits;
};

ScheduleDecisions Schedule(const ScheduleSnapshot& snapshot);

}  // namespace liger::server

#endif  // LIGER_SERVER_SCHEDULER_SCHEDULER_H_
