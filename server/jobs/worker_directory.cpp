#include "server/jobs/worker_directory.h"

#include <utility>

namespace liger::server {

void WorkerDirectory::Load(WorkerRow worker) {
  absl::MutexLock lock(&mutex_);
  const std::string id = worker.worker_id;
  workers_[id].row = std::move(worker);
}

void WorkerDirectory::OnHello(const liger::worker::v1::Hello& hello, int64_t now_us) {
  absl::MutexLock lock(&mutex_);
  Entry& entry = workers_[hello.worker_id()];
  entry.row.worker_id = hello.worker_id();
  entry.row.incarnation = hello.incarnation();
  entry.row.boot_id = hello.boot_id();
  entry.row.hello = hello;
  entry.row.hello.clear_owned();
  entry.row.state = WorkerState::kReady;
  entry.here = true;
  entry.hello_us = now_us;
}

void WorkerDirectory::OnInventory(const std::string& worker_id, int64_t incarnation,
                                  const std::vector<liger::worker::v1::InventoryItem>& inventory) {
  absl::MutexLock lock(&mutex_);
  const auto found = workers_.find(worker_id);
  if (found == workers_.end() || found->second.row.incarnation != incarnation) return;
  *found->second.row.hello.mutable_inventory() = {inventory.begin(), inventory.end()};
}

bool WorkerDirectory::OnLost(const std::string& worker_id, int64_t incarnation) {
  absl::MutexLock lock(&mutex_);
  const auto found = workers_.find(worker_id);
  if (found == workers_.end() || found->second.row.incarnation != incarnation) return false;
  found->second.here = false;
  found->second.row.state = WorkerState::kLost;
  return true;
}

std::optional<WorkerRow> WorkerDirectory::Find(const std::string& worker_id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = workers_.find(worker_id);
  if (found == workers_.end()) return std::nullopt;
  return found->second.row;
}

std::vector<WorkerRow> WorkerDirectory::Workers() const {
  absl::MutexLock lock(&mutex_);
  std::vector<WorkerRow> workers;
  for (const auto& [id, entry] : workers_) workers.push_back(entry.row);
  return workers;
}

bool WorkerDirectory::InventoryIsKnown(int64_t now_us, int64_t settle_us) const {
  absl::MutexLock lock(&mutex_);
  bool any = false;
  for (const auto& [id, entry] : workers_) {
    if (!entry.here) continue;
    any = true;
    if (entry.row.hello.inventory().empty() && now_us - entry.hello_us < settle_us) return false;
  }
  return any;
}

}  // namespace liger::server
