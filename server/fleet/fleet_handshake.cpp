// Prepare to all members of a gang, Start to all with the last Prepared; a refusal, a lost
// session or the deadline gives up the whole gang.
#include <utility>

#include "server/fleet/fleet.h"
#include "server/fleet/messages.h"
#include "server/jobs/job_service.h"
#include "server/jobs/task_key.h"

namespace liger::server {

void Fleet::OnPrepared(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
                       const liger::worker::v1::Prepared& prepared) {
  Outgoing out;
  {
    absl::MutexLock lock(&mutex_);
    std::string current;
    Worker* worker = FindByLink(link, &current);
    if (worker == nullptr) return;
    const auto it = worker->preparing.find(KeyOf(prepared.ref()));
    if (it == worker->preparing.end()) {
      // Too late, or stopped meanwhile: the reservation must not stay.
      out.emplace_back(link, AbortMessage(prepared.ref()));
    } else {
      out = NotePrepared(&it->second, prepared.master());
    }
  }
  for (const auto& [to, message] : out) to->Send(message);
}

Fleet::Outgoing Fleet::NotePrepared(Preparing* preparing, const liger::worker::v1::Master& master) {
  Outgoing starts;
  if (std::exchange(preparing->prepared, true)) return starts;
  const std::shared_ptr<Gang> gang = preparing->gang;
  if (master.port() > 0) gang->master = master;
  if (--gang->awaited > 0) return starts;
  const std::string key = KeyOf(preparing->start.ref);
  for (const std::string& id : gang->workers) {
    Worker& worker = workers_[id];
    const auto member = worker.preparing.find(key);
    starts.emplace_back(worker.link, StartMessage(member->second.start, gang->master));
    worker.preparing.erase(member);
  }
  return starts;
}

void Fleet::OnRefused(const std::string& worker_id, const liger::worker::v1::Refused& refused) {
  GivenUp given_up;
  bool sick = false;
  {
    absl::MutexLock lock(&mutex_);
    Worker& worker = workers_[worker_id];
    // One that says that it is unfit gets nothing anyway.
    sick = refused.unfit() && !worker.draining && worker.unfit.empty();
    const auto it = worker.preparing.find(KeyOf(refused.ref()));
    if (it != worker.preparing.end() && !it->second.start.repeated) {
      given_up = GiveUp(Preparing(it->second), worker_id);
    } else {
      if (it != worker.preparing.end()) worker.preparing.erase(it);
    }
  }
  if (sick) jobs_->OnWorkerRefused(worker_id, refused.ref(), refused.reason());
  if (given_up.start.worker_id.empty()) {
    return jobs_->OnTaskRefused(worker_id, refused.ref(), refused.reason(), /*others_run=*/true);
  }
  Report(given_up, refused.reason());
}

Fleet::GivenUp Fleet::GiveUp(const Preparing& preparing, const std::string& except) {
  GivenUp given_up{preparing.start, {}};
  const liger::trainer::v1::Ref& ref = preparing.start.ref;
  for (const std::string& id : preparing.gang->workers) {
    Worker& worker = workers_[id];
    worker.preparing.erase(KeyOf(ref));
    if (id == except) continue;
    if (worker.link != nullptr && worker.welcomed) {
      given_up.aborts.emplace_back(worker.link, AbortMessage(ref));
    } else {
      worker.to_abort.push_back(ref);
    }
  }
  return given_up;
}

void Fleet::Report(const GivenUp& given_up, const std::string& reason) {
  for (const auto& [link, message] : given_up.aborts) link->Send(message);
  jobs_->OnTaskRefused(given_up.start.worker_id, given_up.start.ref, reason, /*others_run=*/false);
}

std::vector<Fleet::GivenUp> Fleet::GiveUpLate() {
  std::vector<Preparing> late;
  for (auto& [id, worker] : workers_) {
    for (auto it = worker.preparing.begin(); it != worker.preparing.end();) {
      const Preparing& preparing = it->second;
      const bool is_late = !preparing.prepared && Now() >= preparing.gang->deadline;
      if (is_late && !preparing.start.repeated) late.push_back(preparing);
      it = is_late && preparing.start.repeated ? worker.preparing.erase(it) : std::next(it);
    }
  }
  std::vector<GivenUp> given_up;
  for (const Preparing& preparing : late) {
    // Another member of its gang may have been late, too.
    const auto& books = workers_[preparing.start.worker_id].preparing;
    if (books.contains(KeyOf(preparing.start.ref))) given_up.push_back(GiveUp(preparing, ""));
  }
  return given_up;
}

}  // namespace liger::server
