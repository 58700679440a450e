#ifndef LIGER_TESTS_UNIT_COORDINATOR_FAKE_WORKER_H_
#define LIGER_TESTS_UNIT_COORDINATOR_FAKE_WORKER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "liger/worker/v1/worker.grpc.pb.h"

namespace liger::testing {

// The worker protocol's client, in plaintext.
std::unique_ptr<liger::worker::v1::Fleet::Stub> FleetStub(const std::string& address);

struct FakeWorkerOptions {
  std::string worker_id = "w1";
  std::string host_name;
  int64_t incarnation = 1;
  int cpu_slots = 1;
  absl::Duration heartbeat = absl::Milliseconds(50);
  bool auto_prepare = true;  // answer Prepare with Prepared
  bool auto_check = true;    // let every CHECK pass
  std::vector<liger::worker::v1::InventoryItem> inventory;
};

// Speaks the worker protocol over real gRPC, without processes: tests script
// what trainers would do.
class FakeWorker {
 public:
  using Message = liger::worker::v1::CoordinatorMessage;
  using Case = Message::MessageCase;

  FakeWorker(const std::string& address, FakeWorkerOptions options);
  ~FakeWorker();

  // Opens a session, owning `owned`, and waits for Welcome. Heartbeats follow.
  absl::Status Connect(const std::vector<liger::worker::v1::OwnedTask>& owned = {});
  // Drops the stream without a word, as a dead process or network does.
  void Disconnect();
  // The stream stays, but the worker falls silent.
  void StopHeartbeats();
  // Says so in its heartbeats from now on.
  void Drain();
  // The status with which the coordinator ended the session.
  absl::Status WaitClosed(absl::Duration timeout = absl::Seconds(5));

  // The next message of this kind; nullopt when none comes in time.
  std::optional<Message> Take(Case kind, absl::Duration timeout = absl::Seconds(5));
  // As Take, but fails the test when none comes.
  Message Expect(Case kind, absl::Duration timeout = absl::Seconds(5));
  // Start of a TRAIN task (CHECKs are answered by themselves with auto_check).
  liger::worker::v1::Start ExpectTrain(absl::Duration timeout = absl::Seconds(5));

  void Send(const liger::worker::v1::WorkerMessage& message);
  // Sends the next event of a task. `seq` 0: the next number.
  void SendEvent(const liger::trainer::v1::Ref& ref, liger::worker::v1::TaskEvent event,
                 int64_t seq = 0);
  void SendStarted(const liger::trainer::v1::Ref& ref);
  void SendProgress(const liger::trainer::v1::Ref& ref, int64_t step, double loss);
  void SendPublish(const liger::trainer::v1::Ref& ref, const std::string& publication_id,
                   const std::string& kind = "model", int64_t step = 100);
  void SendExit(const liger::trainer::v1::Ref& ref);
  void SendPaused(const liger::trainer::v1::Ref& ref);
  void SendCancelled(const liger::trainer::v1::Ref& ref);
  void SendFailure(const liger::trainer::v1::Ref& ref, liger::v1::FailureClass failure_class,
                   const std::string& message);
  // Started, published, ended well.
  void Succeed(const liger::trainer::v1::Ref& ref);

  // What Hello.owned says about a task that runs here.
  liger::worker::v1::OwnedTask Owned(const liger::trainer::v1::Ref& ref, bool running = true);

  // Of all heartbeats acknowledged so far.
  absl::Duration worst_heartbeat() const;
  int64_t heartbeats_acknowledged() const;

 private:
  using Stream = grpc::ClientReaderWriter<liger::worker::v1::WorkerMessage,
                                          liger::worker::v1::CoordinatorMessage>;

  void ReadLoop();
  void HeartbeatLoop();
  void OnPrepare(const liger::worker::v1::Prepare& prepare);
  void PassCheck(const liger::trainer::v1::Ref& ref);
  liger::worker::v1::Hello MakeHello(const std::vector<liger::worker::v1::OwnedTask>& owned) const;

  const FakeWorkerOptions options_;
  const std::unique_ptr<liger::worker::v1::Fleet::Stub> stub_;

  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;
  std::thread reader_;
  std::thread heartbeats_;

  absl::Mutex write_mutex_;
  mutable absl::Mutex mutex_;
  bool silent_ ABSL_GUARDED_BY(mutex_) = true;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Status close_status_ ABSL_GUARDED_BY(mutex_);
  std::map<Case, std::deque<Message>> inbox_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, liger::trainer::v1::TaskKind> kinds_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> seqs_ ABSL_GUARDED_BY(mutex_);  // last sent, by task
  std::map<int64_t, absl::Time> heartbeat_sent_ ABSL_GUARDED_BY(mutex_);
  absl::Duration worst_heartbeat_ ABSL_GUARDED_BY(mutex_);
  int64_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace liger::testing

#endif  // LIGER_TESTS_UNIT_COORDINATOR_FAKE_WORKER_H_
