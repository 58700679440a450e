#include "worker/agent/inventory_thread.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/agent/steady_time.h"

namespace liger::agent {
namespace {

// Between two looks at the folders, while a whole scan is not due.
constexpr absl::Duration kLookInterval = absl::Seconds(1);

std::string Fingerprint(const InventoryThread::Items& items) {
  std::string fingerprint;
  for (const auto& item : items)
    absl::StrAppend(&fingerprint, item.kind(), item.uri(), "\n", item.digest(), item.refused(),
                    "\n");
  return fingerprint;
}

}  // namespace

InventoryThread::InventoryThread(Inventory inventory, absl::Duration interval,
                                 std::function<std::string()> code,
                                 std::function<void(Items)> changed,
                                 std::function<void(int64_t)> looked)
    : inventory_(std::move(inventory)),
      interval_(interval),
      code_(std::move(code)),
      changed_(std::move(changed)),
      answer_(std::move(looked)),
      thread_([this] { Run(); }) {}

InventoryThread::~InventoryThread() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void InventoryThread::SetCatalogUris(std::vector<std::string> uris) {
  absl::MutexLock lock(&mutex_);
  if (uris == catalog_uris_) return;
  catalog_uris_ = std::move(uris);
  catalog_changed_ = true;
}

void InventoryThread::Look(int64_t id) {
  absl::MutexLock lock(&mutex_);
  look_ = id;
}

void InventoryThread::Run() {
  while (true) {
    std::vector<std::string> uris;
    int64_t look = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
      catalog_changed_ = false;
      uris = catalog_uris_;
      look = std::exchange(look_, 0);
    }
    Items items = inventory_.Scan(uris);
    if (std::string digest = code_(); !digest.empty()) {
      worker::v1::InventoryItem& item = items.emplace_back();
      item.set_kind("code");
      item.set_digest(std::move(digest));
    }
    Tell(items);
    if (look > 0) answer_(look);
    AwaitChange();
  }
}

void InventoryThread::Tell(const Items& items) {
  std::string fingerprint = Fingerprint(items);
  if (std::exchange(told_, fingerprint) != fingerprint) changed_(items);
}

void InventoryThread::AwaitChange() {
  const absl::Time next_scan = SteadyNow() + interval_;
  absl::Duration look_takes;
  while (SteadyNow() < next_scan) {
    {
      // A slow file system is not looked at all the time.
      const absl::Duration wait = std::max(kLookInterval, 10 * look_takes);
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(this, &InventoryThread::Due),
                                  std::min(wait, next_scan - SteadyNow()))) {
        return;
      }
    }
    const absl::Time began = SteadyNow();
    if (inventory_.FoldersChanged()) return;
    look_takes = SteadyNow() - began;
  }
}

}  // namespace liger::agent
