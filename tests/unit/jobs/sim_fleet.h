#ifndef LIGER_TESTS_UNIT_JOBS_SIM_FLEET_H_
#define LIGER_TESTS_UNIT_JOBS_SIM_FLEET_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "server/jobs/job_service.h"

namespace liger::server::testing {

// Workers as the protocol describes them, in one thread, moved by a seed. They start
// gangs whole or not at all, spool events, replay them after a reconnect, obey verdicts, and die.
class SimFleet : public FleetPort {
 public:
  using Key = std::tuple<std::string, int64_t, std::string>;

  struct Task {
    liger::trainer::v1::Ref ref;
    bool train = false;
    bool running = true;
    bool stopping = false;
    bool asked = false;  // to publish
    bool granted = false;
    bool told = false;  // that it is there
    bool denied = false;
    bool pausing = false;
    bool leads = false;  // has rank 0, which publishes
    std::vector<int> ranks;
    std::vector<std::string> devices;
    int64_t seq = 0;
    int64_t sent = 0;  // on this session
    std::deque<liger::worker::v1::TaskEvent> spool;
  };
  struct Worker {
    std::string id;
    int slots = 1;
    int64_t incarnation = 1;
    bool alive = true;
    bool connected = false;
    int64_t silent_since_us = 0;
    bool lost = false;
    std::map<Key, Task> tasks;
  };

  SimFleet(int workers, uint64_t seed) : random_(seed) {
    for (int i = 0; i < workers; ++i) {
      Worker& worker = workers_["w" + std::to_string(i)];
      worker.id = "w" + std::to_string(i);
      worker.slots = 1 + i % 2;
    }
  }

  // ---- FleetPort: only notes what to do; the steps below do it.
  bool IsConnected(const std::string& worker_id) const override {
    return workers_.at(worker_id).connected;
  }
  bool TakesTasks(const std::string& worker_id) const override { return IsConnected(worker_id); }
  void Disconnect(const std::string& worker_id, const std::string& reason) override {
    ADD_FAILURE() << worker_id << " kept the protocol: " << reason;
  }
  void StartGang(const std::vector<TaskStart>& members) override {
    for (const TaskStart& start : members) {
      if (workers_.at(start.worker_id).connected) continue;
      if (!start.repeated) Refuse(start, "not connected", /*others_run=*/false);
      return;
    }
    const TaskStart& guilty = members[Below(static_cast<int>(members.size()))];
    const bool known = workers_.at(guilty.worker_id).tasks.contains(KeyOf(guilty.ref));
    if (!known && Chance(0.05)) return Refuse(guilty, "busy", /*others_run=*/guilty.repeated);
    // After the others were told to start: it drains by now.
    const bool late = !known && !guilty.repeated && Chance(0.03);
    for (const TaskStart& start : members) {
      if (!late || &start != &guilty) Start(start);
    }
    if (late) Refuse(guilty, "draining", /*others_run=*/true);
  }
  void StopTask(const TaskStop& stop, double, const std::string&) override {
    Worker& worker = workers_.at(stop.worker_id);
    if (!worker.connected) return;
    const auto found = worker.tasks.find(KeyOf(stop.ref));
    if (found != worker.tasks.end()) found->second.stopping = true;
  }
  void PauseTask(const TaskStop& stop) override {
    Worker& worker = workers_.at(stop.worker_id);
    const auto found = worker.tasks.find(KeyOf(stop.ref));
    if (worker.connected && found != worker.tasks.end()) found->second.pausing = true;
  }
  void AckEvents(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                 int64_t through_seq) override {
    Worker& worker = workers_.at(worker_id);
    if (worker.connected && !Chance(0.1)) Ack(&worker, KeyOf(ref), through_seq);
  }
  void AnswerPublish(const PublishAnswer& answer) override {
    Worker& worker = workers_.at(answer.worker_id);
    const auto found = worker.tasks.find(KeyOf(answer.ref));
    if (!worker.connected || found == worker.tasks.end()) return;
    EXPECT_FALSE(answer.granted && found->second.denied) << "an answer was changed";
    (answer.granted ? found->second.granted : found->second.denied) = true;
  }
  void Look(const std::string&, int64_t) override {}
  void Reclaim(const std::string&, const std::vector<ReclaimRow>&) override {}

  // ---- what can happen
  void RunLater() {
    while (!later_.empty()) {
      auto call = std::move(later_.front());
      later_.pop_front();
      call();
    }
  }

  void Connect(Worker* worker, int64_t now_us) {
    if (worker->connected) return;
    worker->alive = true;
    liger::worker::v1::Hello hello;
    hello.set_worker_id(worker->id);
    hello.set_incarnation(worker->incarnation);
    hello.set_output_root("/out");
    hello.set_tells_publications(true);
    for (int i = 0; i < worker->slots; ++i) {
      auto* device = hello.add_devices();
      device->set_uuid("cpu-" + std::to_string(i));
      device->set_kind(liger::v1::DEVICE_KIND_CPU);
    }
    // What all jobs use.
    for (const auto& [kind, uri] : {std::pair("model", "/models/any"),
                                    std::pair("dataset", "/data/any.json")}) {
      hello.add_inventory()->set_kind(kind);
      hello.mutable_inventory()->rbegin()->set_uri(uri);
    }
    for (const auto& [key, task] : worker->tasks) {
      auto* owned = hello.add_owned();
      *owned->mutable_ref() = task.ref;
      owned->set_running(task.running);
      owned->set_last_event_seq(task.seq);
    }
    service->OnHello(hello, [&](absl::StatusOr<HelloAnswer> answer) {
      ASSERT_TRUE(answer.ok()) << answer.status();
      worker->connected = true;
      worker->lost = false;
      worker->silent_since_us = now_us;
      for (const auto& verdict : answer->verdicts) {
        const auto found = worker->tasks.find(KeyOf(verdict.ref()));
        ASSERT_NE(found, worker->tasks.end());
        found->second.sent = verdict.ack_seq();
        if (verdict.action() == liger::worker::v1::Verdict::STOP) found->second.stopping = true;
        Ack(worker, found->first, verdict.ack_seq());
      }
    });
    RunLater();
  }
  void Disconnect(Worker* worker, int64_t now_us) {
    if (!worker->connected) return;
    worker->connected = false;
    worker->silent_since_us = now_us;
  }
  // The agent dies and its trainers with it; spools stay on disk.
  void Kill(Worker* worker, int64_t now_us) {
    Disconnect(worker, now_us);
    worker->alive = false;
    ++worker->incarnation;
    std::erase_if(worker->tasks, [](const auto& entry) { return entry.second.running; });
  }
  void ExpireLeases(int64_t now_us) {
    for (auto& [id, worker] : workers_) {
      if (worker.connected || worker.lost || now_us - worker.silent_since_us < 20'000'000) continue;
      worker.lost = true;
      // The coordinator knows the incarnation of the last Hello.
      service->OnWorkerLost(id, worker.alive ? worker.incarnation : worker.incarnation - 1);
    }
  }
  // Every trainer does something; every session delivers.
  void Work() {
    for (auto& [id, worker] : workers_) {
      if (!worker.alive) continue;
      for (auto& [key, task] : worker.tasks) {
        if (task.running) Advance(&task);
      }
      Deliver(&worker);
    }
    RunLater();
  }
  void Deliver(Worker* worker) {
    std::vector<liger::worker::v1::TaskEvent> outgoing;
    for (auto& [key, task] : worker->tasks) {
      for (const auto& event : task.spool) {
        if (event.seq() > task.sent) outgoing.push_back(event);
      }
      if (worker->connected) task.sent = std::max(task.sent, task.seq);
    }
    if (!worker->connected) return;
    for (const auto& event : outgoing) service->OnTaskEvent(worker->id, event);
  }

  bool Chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  int Below(int n) { return std::uniform_int_distribution<>(0, n - 1)(random_); }
  Worker* AnyWorker() { return &std::next(workers_.begin(), Below(workers_.size()))->second; }
  std::map<std::string, Worker>& workers() { return workers_; }

  JobService* service = nullptr;
  bool calm = false;  // no failures any more

 private:
  void Refuse(const TaskStart& start, const std::string& why, bool others_run) {
    later_.push_back([this, id = start.worker_id, ref = start.ref, why, others_run] {
      service->OnTaskRefused(id, ref, why, others_run);
    });
  }
  void Start(const TaskStart& start) {
    Worker& worker = workers_.at(start.worker_id);
    auto [entry, fresh] = worker.tasks.try_emplace(KeyOf(start.ref));
    if (!fresh) return;  // idempotent by ref
    Task& task = entry->second;
    task.ref = start.ref;
    task.train = start.kind == liger::trainer::v1::TASK_KIND_TRAIN;
    task.leads = start.gang.node_rank() == 0;
    for (const auto& local : start.local_ranks) {
      task.ranks.push_back(local.rank());
      task.devices.push_back(local.device_uuid());
      for (const auto& [key, other] : worker.tasks) {  // I6, as the host sees it
        if (key == KeyOf(start.ref) || !other.running) continue;
        for (const std::string& device : other.devices) {
          EXPECT_NE(device, local.device_uuid()) << "two trainers on one device";
        }
      }
    }
  }
  static Key KeyOf(const liger::trainer::v1::Ref& ref) {
    return {ref.job_uid(), ref.epoch(), ref.task_id()};
  }
  static void Ack(Worker* worker, const Key& key, int64_t through_seq) {
    const auto found = worker->tasks.find(key);
    if (found == worker->tasks.end()) return;
    std::deque<liger::worker::v1::TaskEvent>& spool = found->second.spool;
    while (!spool.empty() && spool.front().seq() <= through_seq) spool.pop_front();
    if (!found->second.running && spool.empty()) worker->tasks.erase(found);
  }
  liger::worker::v1::TaskEvent* Emit(Task* task) {
    auto* event = &task->spool.emplace_back();
    *event->mutable_ref() = task->ref;
    event->set_seq(++task->seq);
    return event;
  }
  void Exit(Task* task, liger::v1::FailureClass failure_class) {
    auto* exited = Emit(task)->mutable_exited();
    exited->set_cancelled(task->stopping);
    if (!task->stopping && failure_class != liger::v1::FAILURE_CLASS_UNSPECIFIED) {
      exited->mutable_failure()->set_class_(failure_class);
      // Its own, or another rank's.
      const int rank = task->ranks.empty() || Chance(0.3) ? -1 : task->ranks.front();
      exited->mutable_failure()->set_first_failed_rank(rank);
    }
    task->running = false;
  }
  void Advance(Task* task) {
    if (task->stopping || task->denied) return Exit(task, liger::v1::FAILURE_CLASS_INFRA);
    if (!calm && Chance(0.02)) return Exit(task, liger::v1::FAILURE_CLASS_INFRA);
    if (!task->train) {
      Emit(task)->mutable_check_result();
      return Exit(task, liger::v1::FAILURE_CLASS_UNSPECIFIED);
    }
    if (task->seq == 0) {
      Emit(task)->mutable_started();
    } else if (task->pausing && !task->asked) {
      Emit(task)->mutable_exited()->set_paused(true);
      task->running = false;
    } else if (!task->leads && task->seq > 4) {
      Exit(task, liger::v1::FAILURE_CLASS_UNSPECIFIED);
    } else if (task->granted && !task->told) {
      Emit(task)->mutable_publication()->set_publication_id("final");
      task->told = true;
    } else if (task->granted) {
      Exit(task, liger::v1::FAILURE_CLASS_UNSPECIFIED);
    } else if (task->seq > 4 && !task->asked) {
      auto* saved = Emit(task)->mutable_publish_request()->mutable_saved();
      saved->set_publication_id("final");
      saved->set_kind("model");
      saved->set_manifest_digest("sha256:1");
      task->asked = true;
    } else if (!calm && Chance(0.02)) {
      Exit(task, liger::v1::FAILURE_CLASS_NAN);
    } else if (!task->asked) {
      Emit(task)->mutable_progress()->mutable_step()->set_step(task->seq);
    }
  }

  std::mt19937_64 random_;
  std::map<std::string, Worker> workers_;
  std::deque<std::function<void()>> later_;
};

}  // namespace liger::server::testing

#endif  // LIGER_TESTS_UNIT_JOBS_SIM_FLEET_H_
