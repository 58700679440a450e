#ifndef LIGER_TESTS_UNIT_AGENT_FAKE_COORDINATOR_H_
#define LIGER_TESTS_UNIT_AGENT_FAKE_COORDINATOR_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "liger/worker/v1/worker.grpc.pb.h"

namespace liger::agent {

// The coordinator's side of the fleet protocol, driven by a test: it records
// everything and answers only what it is told to.
class FakeCoordinator : public worker::v1::Fleet::Service {
 public:
  struct Task {
    std::vector<worker::v1::TaskEvent> received;
    int64_t acknowledged = 0;
    std::map<int, std::string> logs;  // by rank
    std::vector<int64_t> steps;
  };
  // What a real one keeps in its store, by task.
  using Memory = std::map<std::string, Task>;

  // Listens on a port of loopback; 0 picks a free one.
  explicit FakeCoordinator(int port = 0, Memory memory = {});
  ~FakeCoordinator() override;
  int port() const { return port_; }
  std::string address() const;

  // ---- what it does by itself; set before the worker connects

  worker::v1::Lease lease;
  int64_t term = 1;
  enum class PublicationAnswer { kGrant, kDeny, kNone };

  // Acknowledges and grants everything at first.
  void SetAcknowledgeHeartbeats(bool on);
  void SetAcknowledgeEvents(bool on);
  void SetPublicationAnswer(PublicationAnswer answer);
  void SetWelcome(bool on);
  // Ends every session with this error instead; OK: not.
  void SetRefusal(grpc::Status refusal);
  // Off: every Ship stream is refused.
  void SetShip(bool on);
  // By default each owned task is adopted from what was acknowledged here.
  void SetVerdict(const std::string& job_uid, worker::v1::Verdict::Action action);

  // ---- what the test tells it to send

  void Send(const worker::v1::CoordinatorMessage& message);
  void Prepare(const trainer::v1::Ref& ref, trainer::v1::TaskKind kind,
               const std::vector<std::string>& devices);
  // Prepare, wait for Prepared, Start; a rank on each of the worker's first devices.
  void Run(const trainer::v1::Ref& ref, const v1::JobSpec& spec,
           trainer::v1::TaskKind kind = trainer::v1::TASK_KIND_TRAIN, int ranks = 1);
  void Pause(const trainer::v1::Ref& ref);
  void Stop(const trainer::v1::Ref& ref, double grace_seconds);
  // `output_uri`: default, the job's uid.
  void Grant(const trainer::v1::Ref& ref, const std::string& output_uri = "");
  void CloseSessions();

  // ---- what it has heard; each waits up to a minute and fails the test then

  worker::v1::Hello WaitForHello(int count = 1);
  worker::v1::Prepared WaitForPrepared(const trainer::v1::Ref& ref);
  void ForgetPrepared();
  worker::v1::Refused WaitForRefused(const trainer::v1::Ref& ref);
  worker::v1::Exited WaitForExited(const trainer::v1::Ref& ref);
  void WaitForHeartbeats(int count);
  bool WaitUntil(const std::function<bool()>& condition,
                 absl::Duration timeout = absl::Seconds(60));

  // Events of a task in the order of arrival, replays included.
  std::vector<worker::v1::TaskEvent> Received(const trainer::v1::Ref& ref);
  // By seq, each once. Two different events under one number fail the test.
  std::vector<worker::v1::TaskEvent> Events(const trainer::v1::Ref& ref);
  std::string Log(const trainer::v1::Ref& ref, int rank = 0);
  std::vector<int64_t> Steps(const trainer::v1::Ref& ref);
  int hellos();
  Memory memory();
  worker::v1::Heartbeat last_heartbeat();

 private:
  using SessionStream =
      grpc::ServerReaderWriter<worker::v1::CoordinatorMessage, worker::v1::WorkerMessage>;
  using ShipStream = grpc::ServerReaderWriter<worker::v1::ChunkAck, worker::v1::Chunk>;

  grpc::Status Session(grpc::ServerContext* context, SessionStream* stream) override;
  grpc::Status Ship(grpc::ServerContext* context, ShipStream* stream) override;
  void OnHello(const worker::v1::Hello& hello) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnHeartbeat(const worker::v1::Heartbeat& heartbeat) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnEvent(const worker::v1::TaskEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  bool acknowledge_heartbeats_ ABSL_GUARDED_BY(mutex_) = true;
  bool acknowledge_events_ ABSL_GUARDED_BY(mutex_) = true;
  bool welcome_ ABSL_GUARDED_BY(mutex_) = true;
  grpc::Status refusal_ ABSL_GUARDED_BY(mutex_);
  bool ship_ ABSL_GUARDED_BY(mutex_) = true;
  PublicationAnswer publication_answer_ ABSL_GUARDED_BY(mutex_) = PublicationAnswer::kGrant;
  std::map<std::string, worker::v1::Verdict::Action> verdicts_ ABSL_GUARDED_BY(mutex_);
  SessionStream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  grpc::ServerContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<worker::v1::Hello> hellos_ ABSL_GUARDED_BY(mutex_);
  std::vector<worker::v1::Heartbeat> heartbeats_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, worker::v1::Prepared> prepared_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, worker::v1::Refused> refused_ ABSL_GUARDED_BY(mutex_);
  Memory tasks_ ABSL_GUARDED_BY(mutex_);
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace liger::agent

#endif  // LIGER_TESTS_UNIT_AGENT_FAKE_COORDINATOR_H_
