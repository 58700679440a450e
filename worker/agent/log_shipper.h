#ifndef LIGER_WORKER_AGENT_LOG_SHIPPER_H_
#define LIGER_WORKER_AGENT_LOG_SHIPPER_H_

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/channel.h"
#include "liger/worker/v1/worker.grpc.pb.h"
#include "worker/agent/ship_source.h"

namespace liger::agent {

// Sends logs and logged steps on a stream of its own. On a new stream it asks
// for each task where to go on, so nothing is lost or sent twice for long.
// Thread-safe; works on a thread of its own.
class LogShipper {
 public:
  LogShipper(std::shared_ptr<grpc::Channel> channel, std::string worker_id);
  ~LogShipper();

  // One rank of a task.
  void Add(const trainer::v1::Ref& ref, int rank, const std::string& log_path,
           const std::string& events_path);
  // The files of this task grow no more.
  void Finish(const trainer::v1::Ref& ref);
  // Everything there is has been acknowledged. REQUIRES: Finish was called.
  bool Drained(const trainer::v1::Ref& ref) const;
  void Remove(const trainer::v1::Ref& ref);

 private:
  using Stream = grpc::ClientReaderWriter<worker::v1::Chunk, worker::v1::ChunkAck>;

  void Run();
  // One stream, until it breaks or there is nothing left to ship.
  void Serve();
  // Sends what is due; false when the stream is broken.
  bool Pump(Stream& stream);
  void ReadAcks(Stream& stream);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool WaitFor(absl::Duration duration);

  std::unique_ptr<worker::v1::Fleet::Stub> stub_;
  const std::string worker_id_;

  mutable absl::Mutex mutex_;
  // By task and rank.
  using Key = std::pair<std::string, int>;
  std::map<Key, std::shared_ptr<ShipSource>> sources_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool stream_broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_LOG_SHIPPER_H_
