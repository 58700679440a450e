#include "server/store/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "server/store/apply.h"
#include "server/store/backup.h"
#include "server/store/transition.h"

namespace liger::server {
namespace {

// More commands than this in one transaction only delay its first.
constexpr size_t kMaxBatch = 256;

int64_t MetaNumber(const ReadView& view, const std::string& key) {
  int64_t number = 0;
  return absl::SimpleAtoi(view.Meta(key), &number) ? number : 0;
}

// One backup may be restored twice, so the number after it is not enough: what
// the first restored life handed out must not come again. The time of the
// restore, in units of 10 s, fits an epoch's high part until the year 2650.
int64_t RaisedGeneration(int64_t generation) {
  return std::max(generation + 1, absl::ToUnixSeconds(absl::Now()) / 10);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Engine::Open(std::unique_ptr<Backend> backend,
                                                    const StoreOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(std::move(backend), options));
  const absl::Status begun = engine->BeginTerm();
  if (!begun.ok()) return begun;
  if (!options.synchronous) {
    engine->threads_.emplace_back([raw = engine.get()] { raw->WriterLoop(); });
    for (int i = 0; i < options.reader_threads; ++i) {
      engine->threads_.emplace_back([raw = engine.get()] { raw->ReaderLoop(); });
    }
  }
  return engine;
}

Engine::Engine(std::unique_ptr<Backend> backend, const StoreOptions& options)
    : backend_(std::move(backend)), options_(options) {}

Engine::~Engine() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

absl::Status Engine::BeginTerm() {
  absl::Status status = backend_->Begin();
  if (!status.ok()) return status;
  Tables& tables = backend_->tables();
  cluster_id_ = tables.Meta("cluster_id");
  if (cluster_id_.empty()) {
    cluster_id_ = options_.cluster_id.empty() ? NewUuid() : options_.cluster_id;
    tables.PutMeta("cluster_id", cluster_id_);
  }
  generation_ = MetaNumber(tables, "generation");
  if (options_.raise_generation || !tables.Meta(kBackupMark).empty()) {
    generation_ = RaisedGeneration(generation_);
    tables.PutMeta(kBackupMark, "");
  }
  // Above all terms that workers have seen, also those after the backup.
  term_ = std::max(MetaNumber(tables, "term") + 1, generation_ << 32);
  tables.PutMeta("term", absl::StrCat(term_));
  tables.PutMeta("generation", absl::StrCat(generation_));
  return backend_->Commit();
}

void Engine::ApplyCommand(Command command, CommandDone done) {
  {
    absl::MutexLock lock(&mutex_);
    if (!closing_) {
      commands_.push_back({std::move(command), std::move(done)});
      done = nullptr;
    }
  }
  if (done) return done(absl::CancelledError("the store is closing"));
  if (options_.synchronous) DrainInline();
}

void Engine::ReadSnapshot(Reader reader) {
  {
    absl::MutexLock lock(&mutex_);
    if (!closing_) {
      reads_.push_back(std::move(reader));
      reader = nullptr;
    }
  }
  if (reader) return reader(absl::CancelledError("the store is closing"));
  if (options_.synchronous) DrainInline();
}

void Engine::WriterLoop() {
  while (true) {
    std::vector<Pending> batch;
    {
      absl::MutexLock lock(&mutex_);
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return closing_ || !commands_.empty();
      };
      mutex_.Await(absl::Condition(&ready));
      while (!commands_.empty() && batch.size() < kMaxBatch) {
        batch.push_back(std::move(commands_.front()));
        commands_.pop_front();
      }
      if (batch.empty()) {
        writer_done_ = true;
        return;
      }
    }
    Commit(std::move(batch));
  }
}

void Engine::ReaderLoop() {
  while (true) {
    Reader reader;
    {
      absl::MutexLock lock(&mutex_);
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return writer_done_ || !reads_.empty();
      };
      mutex_.Await(absl::Condition(&ready));
      if (reads_.empty()) return;
      reader = std::move(reads_.front());
      reads_.pop_front();
    }
    backend_->Read(reader);
  }
}

void Engine::Commit(std::vector<Pending> batch) {
  std::vector<JobChange> changes;
  const absl::Status committed = ApplyBatch(&batch, &changes);
  if (!committed.ok()) {
    changes.clear();
    for (Pending& pending : batch) pending.result = committed;
  }
  if (listener_ && !changes.empty()) listener_(changes);
  for (Pending& pending : batch) pending.done(std::move(pending.result));
}

absl::Status Engine::ApplyBatch(std::vector<Pending>* batch, std::vector<JobChange>* changes) {
  absl::Status status = backend_->Begin();
  if (!status.ok()) return status;
  for (Pending& pending : *batch) ApplyOne(&pending, changes);
  status = backend_->tables().status();
  if (options_.commit_delay.count() > 0) std::this_thread::sleep_for(options_.commit_delay);
  if (status.ok() && options_.fail_commit) status = options_.fail_commit();
  if (!status.ok()) {
    backend_->Rollback();
    return status;
  }
  return backend_->Commit();
}

void Engine::ApplyOne(Pending* pending, std::vector<JobChange>* changes) {
  Transaction txn(&backend_->tables(), pending->command, generation_);
  backend_->BeginCommand();
  pending->result = liger::server::ApplyCommand(pending->command, txn);
  if (!pending->result.ok()) return backend_->UndoCommand();
  for (JobChange& change : txn.TakeChanges()) changes->push_back(std::move(change));
  backend_->KeepCommand();
}

void Engine::DrainInline() {
  {
    absl::MutexLock lock(&mutex_);
    if (draining_) return;  // a callback queued more: the caller above goes on
    draining_ = true;
  }
  while (true) {
    std::vector<Pending> batch;
    Reader reader;
    {
      absl::MutexLock lock(&mutex_);
      if (!commands_.empty()) {
        batch.push_back(std::move(commands_.front()));
        commands_.pop_front();
      } else if (!reads_.empty()) {
        reader = std::move(reads_.front());
        reads_.pop_front();
      } else {
        draining_ = false;
        return;
      }
    }
    if (reader) {
      backend_->Read(reader);
    } else {
      Commit(std::move(batch));
    }
  }
}

}  // namespace liger::server
