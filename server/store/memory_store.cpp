#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/store/engine.h"
#include "server/store/memory_tables.h"

namespace liger::server {
namespace {

// The lock is held from Begin to Commit, so readers see commits only.
class MemoryBackend : public Backend {
 public:
  absl::Status Begin() override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    mutex_.Lock();
    return absl::OkStatus();
  }
  void BeginCommand() override { mark_ = tables_.Mark(); }
  void KeepCommand() override {}
  void UndoCommand() override { tables_.UndoTo(mark_); }
  absl::Status Commit() override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    tables_.ForgetJournal();
    mutex_.Unlock();
    return absl::OkStatus();
  }
  void Rollback() override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    tables_.UndoTo(0);
    mutex_.Unlock();
  }
  Tables& tables() override { return tables_; }

  void Read(const std::function<void(absl::StatusOr<const ReadView*>)>& reader) override {
    absl::ReaderMutexLock lock(&mutex_);
    reader(&tables_);
  }

 private:
  absl::Mutex mutex_;
  MemoryTables tables_;  // guarded by mutex_, across functions
  size_t mark_ = 0;
};

}  // namespace

std::unique_ptr<Store> NewMemoryStore(const StoreOptions& options) {
  // Opening fails only on errors of the storage, which memory does not have.
  return Engine::Open(std::make_unique<MemoryBackend>(), options).value();
}

}  // namespace liger::server
