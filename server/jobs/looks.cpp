#include "server/jobs/looks.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace liger::server {

int64_t Looks::Add(std::set<std::string> workers, int64_t now_us, int64_t until_us, Done done) {
  int64_t id = 0;
  {
    absl::MutexLock lock(&mutex_);
    id = last_id_ = std::max(last_id_ + 1, now_us);
    std::erase_if(workers, [this](const std::string& worker) {
      mutex_.AssertHeld();
      return silent_.contains(worker);
    });
    looks_[id] = {std::move(workers), {}, until_us, std::move(done)};
  }
  Settle([](int64_t, Look&) {});
  return id;
}

void Looks::OnLooked(const std::string& worker_id, int64_t id) {
  {
    // Each heartbeat says the same until there is something newer.
    absl::MutexLock lock(&mutex_);
    const auto silent = silent_.find(worker_id);
    if (silent != silent_.end() && silent->second <= id) silent_.erase(silent);
  }
  Settle([&](int64_t asked, Look& look) {
    if (asked <= id && look.awaited.erase(worker_id) > 0) look.answered.insert(worker_id);
  });
}

void Looks::GiveUp(const std::string& worker_id) {
  {
    absl::MutexLock lock(&mutex_);
    silent_.erase(worker_id);
  }
  Settle([&](int64_t, Look& look) { look.awaited.erase(worker_id); });
}

void Looks::Expire(int64_t now_us) {
  Settle([this, now_us](int64_t id, Look& look) {
    mutex_.AssertHeld();
    if (look.until_us > now_us) return;
    for (const std::string& worker : look.awaited) silent_[worker] = id;
    look.awaited.clear();
  });
}

void Looks::EndAll() {
  Settle([](int64_t, Look& look) { look.awaited.clear(); });
}

void Looks::Settle(const std::function<void(int64_t id, Look&)>& change) {
  std::vector<Look> over;
  {
    absl::MutexLock lock(&mutex_);
    for (auto it = looks_.begin(); it != looks_.end();) {
      change(it->first, it->second);
      if (it->second.awaited.empty()) {
        over.push_back(std::move(it->second));
        it = looks_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (const Look& look : over) look.done(look.answered);
}

}  // namespace liger::server
