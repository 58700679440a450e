#include "server/fleet/fleet_service.h"

#include <utility>

#include "server/api/status.h"
#include "server/errors/errors.h"
#include "server/rpc/queued_writer.h"

namespace liger::server {
namespace {

using liger::worker::v1::Chunk;
using liger::worker::v1::ChunkAck;
using liger::worker::v1::CoordinatorMessage;
using liger::worker::v1::WorkerMessage;

absl::Status TooSlow() {
  return ErrorWithReason(absl::StatusCode::kResourceExhausted, "WORKER_TOO_SLOW",
                         "the worker does not read what the coordinator sends; connect again");
}

// Reads one message at a time: handlers see them in order and the peer feels
// backpressure.
template <typename In, typename Out, typename Link>
class BidiStream : public QueuedWriter<grpc::ServerBidiReactor<In, Out>, Out>, public Link {
 public:
  using Writer = QueuedWriter<grpc::ServerBidiReactor<In, Out>, Out>;

  bool Send(const Out& message) override {
    if (Writer::Send(message)) return true;
    Writer::CloseNow(ToGrpc(TooSlow()));
    return false;
  }
  void Close(const absl::Status& status) override { Writer::Close(ToGrpc(status)); }

  void Begin() {
    this->Hold();
    this->StartRead(&incoming_);
  }

 protected:
  BidiStream() : Writer(FleetService::kMaxQueued) {}

  virtual void OnReceived(In message) = 0;

  std::shared_ptr<Link> self() {
    return std::shared_ptr<Link>(this->shared_from_this(), static_cast<Link*>(this));
  }

  void OnReadDone(bool ok) final {
    if (!ok) {
      Writer::Close(grpc::Status::OK);
      return;
    }
    OnReceived(std::move(incoming_));
  }

  void ReadNext() {
    incoming_.Clear();
    this->UnlessFinished([this] { this->StartRead(&incoming_); });
  }

 private:
  In incoming_;
};

class SessionStream : public BidiStream<WorkerMessage, CoordinatorMessage, WorkerLink> {
 public:
  explicit SessionStream(WorkerMessageHandler* handler) : handler_(handler) {}

 protected:
  void OnReceived(WorkerMessage message) override {
    handler_->OnMessage(self(), std::move(message));
    ReadNext();
  }
  void OnFinished() override { handler_->OnClosed(self()); }

 private:
  WorkerMessageHandler* const handler_;
};

class ShipStream : public BidiStream<Chunk, ChunkAck, ShipLink> {
 public:
  explicit ShipStream(ChunkHandler* handler) : handler_(handler) {}

 protected:
  void OnReceived(Chunk chunk) override {
    auto stream = std::static_pointer_cast<ShipStream>(this->shared_from_this());
    handler_->OnChunk(stream, std::move(chunk), [stream] { stream->ReadNext(); });
  }

 private:
  ChunkHandler* const handler_;
};

}  // namespace

grpc::ServerBidiReactor<WorkerMessage, CoordinatorMessage>* FleetService::Session(
    grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<SessionStream>(messages_);
  stream->Begin();
  return stream.get();
}

grpc::ServerBidiReactor<Chunk, ChunkAck>* FleetService::Ship(grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<ShipStream>(chunks_);
  stream->Begin();
  return stream.get();
}

}  // namespace liger::server
