#ifndef LIGER_SERVER_FLEET_FLEET_SERVICE_H_
#define LIGER_SERVER_FLEET_FLEET_SERVICE_H_

#include <cstddef>
#include <list>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "liger/worker/v1/worker.grpc.pb.h"
#include "server/fleet/links.h"

namespace liger::server {

// liger.worker.v1.Fleet over gRPC. Moves messages between streams and
// handlers; decides nothing.
class FleetService : public liger::worker::v1::Fleet::CallbackService {
 public:
  // Most messages waiting for one worker. A worker that reads so slowly is cut
  // off; it comes back and is reconciled.
  static constexpr size_t kMaxQueued = 4096;
  static constexpr int kMaxMessageBytes = 1 << 20;

  // Both outlive the service.
  FleetService(WorkerMessageHandler* messages, ChunkHandler* chunks)
      : messages_(messages), chunks_(chunks) {}

  grpc::ServerBidiReactor<liger::worker::v1::WorkerMessage, liger::worker::v1::CoordinatorMessage>*
  Session(grpc::CallbackServerContext* context) override;

  grpc::ServerBidiReactor<liger::worker::v1::Chunk, liger::worker::v1::ChunkAck>* Ship(
      grpc::CallbackServerContext* context) override;

 private:
  WorkerMessageHandler* const messages_;
  ChunkHandler* const chunks_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_FLEET_FLEET_SERVICE_H_
