#ifndef LIGER_SERVER_STORE_ENGINE_H_
#define LIGER_SERVER_STORE_ENGINE_H_

#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/store/store.h"
#include "server/store/tables.h"

namespace liger::server {

// The Store over any Backend: the queues, the writer thread with its group
// commit, and the reader pool.
class Engine : public Store {
 public:
  // Reads meta, raises the term, and starts the threads.
  static absl::StatusOr<std::unique_ptr<Store>> Open(std::unique_ptr<Backend> backend,
                                                     const StoreOptions& options);
  ~Engine() override;

  void SetCommitListener(CommitListener listener) override { listener_ = std::move(listener); }
  int64_t term() const override { return term_; }
  int64_t generation() const override { return generation_; }
  std::string cluster_id() const override { return cluster_id_; }

 protected:
  void ApplyCommand(Command command, CommandDone done) override;
  void ReadSnapshot(Reader reader) override;

 private:
  struct Pending {
    Command command;
    CommandDone done;
    absl::StatusOr<CommandResult> result = absl::CancelledError("the store is closing");
  };

  Engine(std::unique_ptr<Backend> backend, const StoreOptions& options);
  absl::Status BeginTerm();

  void WriterLoop();
  void ReaderLoop();
  // Applies the commands in one transaction and completes them.
  void Commit(std::vector<Pending> batch);
  absl::Status ApplyBatch(std::vector<Pending>* batch, std::vector<JobChange>* changes);
  void ApplyOne(Pending* pending, std::vector<JobChange>* changes);
  // Synchronous mode: runs what is queued, in the calling thread.
  void DrainInline();

  const std::unique_ptr<Backend> backend_;
  const StoreOptions options_;
  CommitListener listener_;
  int64_t term_ = 0;
  int64_t generation_ = 0;
  std::string cluster_id_;

  absl::Mutex mutex_;
  std::deque<Pending> commands_ ABSL_GUARDED_BY(mutex_);
  std::deque<Reader> reads_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool writer_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_ENGINE_H_
