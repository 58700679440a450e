#include "server/api/change_hub.h"

#include <utility>

namespace liger::server {

void ChangeHub::Publish(const std::vector<JobChange>& changes) {
  thread_.Run([this, changes] {
    std::vector<std::shared_ptr<const Listener>> listeners;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [id, listener] : listeners_) listeners.push_back(listener);
    }
    for (const auto& listener : listeners) (*listener)(changes);
  });
}

int64_t ChangeHub::Add(Listener listener) {
  absl::MutexLock lock(&mutex_);
  listeners_.emplace(next_id_, std::make_shared<const Listener>(std::move(listener)));
  return next_id_++;
}

void ChangeHub::Remove(int64_t id) {
  absl::MutexLock lock(&mutex_);
  listeners_.erase(id);
}

}  // namespace liger::server
