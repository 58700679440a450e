#include "server/jobs/worker_health.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/jobs/failure_policy.h"
#include "server/jobs/task_key.h"

namespace liger::server {
namespace {

constexpr size_t kRecentFailures = 256;

// Of a gang's members, only the one whose rank failed first.
bool IsItsOwn(const liger::worker::v1::Exited& exited) {
  const auto& ranks = exited.local_ranks();
  return ranks.empty() || std::any_of(ranks.begin(), ranks.end(), [&](const auto& rank) {
           return rank.rank() == exited.first_failed_rank();
         });
}

}  // namespace

void WorkerHealth::OnHello(const liger::worker::v1::Hello& hello) {
  absl::MutexLock lock(&mutex_);
  Worker& worker = workers_[hello.worker_id()];
  worker.begun.clear();
  for (const liger::worker::v1::OwnedTask& owned : hello.owned()) {
    if (owned.last_event_seq() > 0) worker.begun.insert(KeyOf(owned.ref()));
  }
  // It may have been mended.
  if (std::exchange(worker.incarnation, hello.incarnation()) == hello.incarnation()) return;
  worker.rest_until_us = 0;
  worker.EndProbe();
}

void WorkerHealth::OnEvent(const std::string& worker_id, const liger::worker::v1::TaskEvent& event,
                           int64_t now_us) {
  const std::string key = KeyOf(event.ref());
  absl::MutexLock lock(&mutex_);
  if (event.has_started() || event.has_check_result()) return NoteBegun(worker_id, key);
  if (!event.has_exited()) return;
  const auto found = workers_.find(worker_id);
  if (found != workers_.end() && found->second.begun.erase(key) > 0) return;
  const TaskExit exit = ClassifyExit(event.exited());
  if (!exit.retry || exit.worker_stopped || !IsItsOwn(event.exited())) return;
  NoteFailure(worker_id, event.ref().job_uid(), exit.failure.message(), now_us);
}

void WorkerHealth::OnRefused(const std::string& worker_id, const std::string& job_uid,
                             const std::string& reason, int64_t now_us) {
  absl::MutexLock lock(&mutex_);
  NoteFailure(worker_id, job_uid, reason, now_us);
}

void WorkerHealth::OnGivenUp(const std::string& worker_id, const std::string& job_uid) {
  absl::MutexLock lock(&mutex_);
  const auto found = workers_.find(worker_id);
  if (found != workers_.end() && found->second.probe == job_uid) found->second.EndProbe();
}

void WorkerHealth::OnOffered(const std::string& worker_id, const std::string& job_uid,
                             int64_t now_us) {
  absl::MutexLock lock(&mutex_);
  const auto found = workers_.find(worker_id);
  if (found == workers_.end() || !found->second.Sick()) return;
  if (now_us < found->second.rest_until_us) return;  // decided before
  found->second.probe = job_uid;
  found->second.probe_until_us = now_us + kProbeUs;
}

std::map<std::string, std::string> WorkerHealth::Resting(int64_t now_us) const {
  absl::MutexLock lock(&mutex_);
  std::map<std::string, std::string> resting;
  for (const auto& [id, worker] : workers_) {
    const bool rests = now_us < worker.rest_until_us;
    if (!worker.Sick() || (!rests && worker.probe_until_us <= now_us)) continue;
    // The same for as long as it lasts: jobs that wait are told it.
    const std::string next =
        rests ? absl::StrCat("tries it after a pause of ", worker.Rest() / 1'000'000,
                             " s, or once it is started anew")
              : "tries it now";
    resting[id] = absl::StrCat(worker.failures, " tasks in a row did not begin there (",
                               worker.detail, "); one task ", next);
  }
  return resting;
}

std::set<std::string> WorkerHealth::Probing(int64_t now_us) const {
  absl::MutexLock lock(&mutex_);
  std::set<std::string> probing;
  for (const auto& [id, worker] : workers_) {
    const int64_t until_us = std::max(worker.rest_until_us, worker.probe_until_us);
    if (worker.Sick() && until_us <= now_us) probing.insert(id);
  }
  return probing;
}

int64_t WorkerHealth::Worker::Rest() const {
  return std::min(kLongestRestUs, kFirstRestUs << std::min(doublings, 10));
}

void WorkerHealth::Worker::EndProbe() {
  probe.reset();
  probe_until_us = 0;
}

void WorkerHealth::Worker::GetWell() {
  failures = doublings = 0;
  jobs.clear();
  rest_until_us = 0;
  EndProbe();
}

bool WorkerHealth::FailedElsewhere(const std::string& worker_id, const std::string& job_uid) {
  const bool elsewhere = std::any_of(recent_.begin(), recent_.end(), [&](const auto& failure) {
    return failure.first == job_uid && failure.second != worker_id;
  });
  recent_.emplace_back(job_uid, worker_id);
  if (recent_.size() > kRecentFailures) recent_.pop_front();
  return elsewhere;
}

void WorkerHealth::Acquit(const std::string& job_uid) {
  for (auto& [id, worker] : workers_) {
    if (worker.probe == job_uid) worker.EndProbe();
    const bool was_sick = worker.Sick();
    if (worker.jobs.erase(job_uid) == 0 || !was_sick || worker.Sick()) continue;
    std::fprintf(stderr,
                 "liger-coordinator: worker %s is well again: a job that failed there fails "
                 "elsewhere, too\n",
                 id.c_str());
    worker.GetWell();
  }
}

bool WorkerHealth::OthersAreWell(const std::string& worker_id) const {
  return std::any_of(workers_.begin(), workers_.end(), [&](const auto& entry) {
    return entry.first != worker_id && !entry.second.Sick();
  });
}

void WorkerHealth::NoteFailure(const std::string& worker_id, const std::string& job_uid,
                               const std::string& detail, int64_t now_us) {
  if (FailedElsewhere(worker_id, job_uid)) return Acquit(job_uid);
  Worker& worker = workers_[worker_id];
  if (worker.Sick()) {
    // What was sent before it was sick, and fails only now, tells nothing new.
    if (worker.probe != job_uid) return;
    if (OthersAreWell(worker_id)) ++worker.doublings;
    worker.EndProbe();
  }
  ++worker.failures;
  worker.jobs.insert(job_uid);
  worker.detail = detail;
  if (!worker.Sick()) return;
  worker.rest_until_us = now_us + worker.Rest();
  std::fprintf(stderr,
               "liger-coordinator: worker %s gets nothing for %d s: %d tasks in a row did not "
               "begin there, the last one: %s\n",
               worker_id.c_str(), static_cast<int>(worker.Rest() / 1'000'000), worker.failures,
               detail.c_str());
}

void WorkerHealth::NoteBegun(const std::string& worker_id, const std::string& key) {
  Worker& worker = workers_[worker_id];
  worker.begun.insert(key);
  if (worker.Sick()) {
    std::fprintf(stderr, "liger-coordinator: worker %s is well again: a task has begun there\n",
                 worker_id.c_str());
  }
  worker.GetWell();
}

}  // namespace liger::server
