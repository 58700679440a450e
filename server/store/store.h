#ifndef LIGER_SERVER_STORE_STORE_H_
#define LIGER_SERVER_STORE_STORE_H_

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/commands.h"
#include "server/store/read_view.h"

// The coordinator's durable state: Apply(Command) -> Result, and snapshot
// reads. Two implementations, SQLite and in-memory, behave alike
// (tests/unit/store/contract_test.cpp runs over both).
//
// Threads. Apply and Read only queue, so any thread may call them, a gRPC
// thread too. Commands are applied in the order of their Apply calls by one
// writer thread; `done` and the commit listener run on it after the commit (the
// listener first), so neither may wait for another command. Reads run on a
// small pool and see every command whose `done` has been called. A queued
// callback is always called exactly once, with CANCELLED if the store closes
// first. ApplyAndWait and ReadAndWait block: tests and start-up only.
namespace liger::server {

// A job as a command left it. Progress and wait reasons have no event.
struct JobChange {
  std::shared_ptr<const liger::v1::Job> job;
  std::optional<liger::v1::JobEvent> event;
  int64_t revision = 0;
};

// Called once a commit, in order of the revisions.
using CommitListener = std::function<void(const std::vector<JobChange>&)>;

struct StoreOptions {
  // Written into a new store; made at random when empty.
  std::string cluster_id;
  // Set when the folder was restored from a backup: epochs handed out after
  // the backup are never handed out again.
  bool raise_generation = false;
  // Test hook: waits this long before each commit.
  std::chrono::milliseconds commit_delay{0};
  // In-memory store only: Apply and Read run in the caller, before they
  // return. For simulations that must be deterministic.
  bool synchronous = false;
  int reader_threads = 2;
  // Test hook: asked before each commit; an error fails it.
  std::function<absl::Status()> fail_commit;
};

// The storage failed, not the command: it changed nothing and may succeed later.
inline bool IsStorageError(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) ||
         absl::IsDataLoss(status);
}

class Store {
 public:
  virtual ~Store() = default;

  // Applies `body` in one transaction and reports it after the commit. An
  // error has changed nothing.
  template <typename C>
  void Apply(int64_t time_us, std::string actor, C body,
             std::function<void(absl::StatusOr<typename C::Result>)> done);

  // Runs `query` on a snapshot, then `done` with what it returned, on a reader
  // thread. An error of the storage replaces the query's answer.
  template <typename R>
  void Read(std::function<absl::StatusOr<R>(const ReadView&)> query,
            std::function<void(absl::StatusOr<R>)> done);

  template <typename C>
  absl::StatusOr<typename C::Result> ApplyAndWait(int64_t time_us, std::string actor, C body);
  template <typename R>
  absl::StatusOr<R> ReadAndWait(std::function<absl::StatusOr<R>(const ReadView&)> query);

  // REQUIRES: no command was applied yet.
  virtual void SetCommitListener(CommitListener listener) = 0;

  // Fixed while the store is open. The term rises with every opening.
  virtual int64_t term() const = 0;
  virtual int64_t generation() const = 0;
  virtual std::string cluster_id() const = 0;

 protected:
  using CommandDone = std::function<void(absl::StatusOr<CommandResult>)>;
  // The reader's status: OK when `view` was whole.
  using Reader = std::function<void(absl::StatusOr<const ReadView*>)>;
  virtual void ApplyCommand(Command command, CommandDone done) = 0;
  virtual void ReadSnapshot(Reader reader) = 0;
};

// Opens or creates `folder`/liger.db and holds the folder's lock until the
// store is destroyed. FAILED_PRECONDITION: another coordinator has the folder
// (the message names its process), or the database was written by a newer
// version. The destructor finishes what is queued.
absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const std::string& folder,
                                                       const StoreOptions& options);

std::unique_ptr<Store> NewMemoryStore(const StoreOptions& options);

// ---- implementation of the templates

template <typename C>
void Store::Apply(int64_t time_us, std::string actor, C body,
                  std::function<void(absl::StatusOr<typename C::Result>)> done) {
  ApplyCommand(Command{time_us, std::move(actor), std::move(body)},
               [done = std::move(done)](absl::StatusOr<CommandResult> result) {
                 if (!done) return;
                 if (!result.ok()) return done(result.status());
                 done(std::get<typename C::Result>(*std::move(result)));
               });
}

template <typename R>
void Store::Read(std::function<absl::StatusOr<R>(const ReadView&)> query,
                 std::function<void(absl::StatusOr<R>)> done) {
  ReadSnapshot(
      [query = std::move(query), done = std::move(done)](absl::StatusOr<const ReadView*> view) {
        if (!view.ok()) return done(view.status());
        absl::StatusOr<R> answer = query(**view);
        if (!(*view)->status().ok()) return done((*view)->status());
        done(std::move(answer));
      });
}

template <typename C>
absl::StatusOr<typename C::Result> Store::ApplyAndWait(int64_t time_us, std::string actor, C body) {
  std::promise<absl::StatusOr<typename C::Result>> promise;
  auto future = promise.get_future();
  Apply<C>(time_us, std::move(actor), std::move(body),
           [&promise](absl::StatusOr<typename C::Result> result) {
             promise.set_value(std::move(result));
           });
  return future.get();
}

template <typename R>
absl::StatusOr<R> Store::ReadAndWait(std::function<absl::StatusOr<R>(const ReadView&)> query) {
  std::promise<absl::StatusOr<R>> promise;
  auto future = promise.get_future();
  Read<R>(std::move(query),
          [&promise](absl::StatusOr<R> answer) { promise.set_value(std::move(answer)); });
  return future.get();
}

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_STORE_H_
