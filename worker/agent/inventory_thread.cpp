#include "worker/agent/inventory_thread.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace liger::agent {
namespace {

std::string Fingerprint(const InventoryThread::Items& items) {
  std::string fingerprint;
  for (const auto& item : items)
    absl::StrAppend(&fingerprint, item.uri(), "\n", item.digest(), "\n");
  return fingerprint;
}

}  // namespace

InventoryThread::InventoryThread(Inventory inventory, absl::Duration interval,
                                 std::function<void(Items)> changed)
    : inventory_(std::move(inventory)),
      interval_(interval),
      changed_(std::move(changed)),
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

void InventoryThread::Run() {
  std::string last = "none yet";
  while (true) {
    std::vector<std::string> uris;
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
      catalog_changed_ = false;
      uris = catalog_uris_;
    }
    Items items = inventory_.Scan(uris);
    if (std::string fingerprint = Fingerprint(items); fingerprint != last) {
      last = std::move(fingerprint);
      changed_(std::move(items));
    }
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &InventoryThread::Due), interval_);
    if (stopping_) return;
  }
}

}  // namespace liger::agent
