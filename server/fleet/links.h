#ifndef LIGER_SERVER_FLEET_LINKS_H_
#define LIGER_SERVER_FLEET_LINKS_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "liger/worker/v1/worker.pb.h"

// The seam between the fleet and gRPC: what the fleet sees of a stream, and
// what a stream tells the fleet. Tests may put anything at either side.
namespace liger::server {

// The coordinator's end of one Session stream. Thread-safe.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  // False when the stream is closing or its queue is full: the message is
  // dropped. Commands are idempotent and sent again after the next Hello.
  virtual bool Send(const liger::worker::v1::CoordinatorMessage& message) = 0;
  // Ends the stream after what is queued.
  virtual void Close(const absl::Status& status) = 0;
};

// The coordinator's end of one Ship stream. Thread-safe.
class ShipLink {
 public:
  virtual ~ShipLink() = default;
  virtual bool Send(const liger::worker::v1::ChunkAck& ack) = 0;
  virtual void Close(const absl::Status& status) = 0;
};

// Receives what workers send, in order for one link, on gRPC threads: must
// neither block nor touch a disk.
class WorkerMessageHandler {
 public:
  virtual ~WorkerMessageHandler() = default;
  virtual void OnMessage(const std::shared_ptr<WorkerLink>& link,
                         liger::worker::v1::WorkerMessage message) = 0;
  // The last call for this link.
  virtual void OnClosed(const std::shared_ptr<WorkerLink>& link) = 0;
};

// Receives bulk. The next chunk of the stream is read when `next` is called,
// once, from any thread: a slow disk slows the sender, not the coordinator.
class ChunkHandler {
 public:
  virtual ~ChunkHandler() = default;
  virtual void OnChunk(const std::shared_ptr<ShipLink>& link, liger::worker::v1::Chunk chunk,
                       std::function<void()> next) = 0;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_FLEET_LINKS_H_
