#ifndef LIGER_SERVER_API_LIVE_STREAMS_H_
#define LIGER_SERVER_API_LIVE_STREAMS_H_

#include <list>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace liger::server {

// A stream that waits for something to happen.
class LiveStream {
 public:
  virtual ~LiveStream() = default;
  // Time passes: look whether there is something to send.
  virtual void Poke() = 0;
  virtual void End(const absl::Status& status) = 0;
};

// The open streams of the public API, so that shutdown can end them with a
// status that tells the client to come back.
class LiveStreams {
 public:
  // After EndAll the stream is ended at once.
  void Add(const std::shared_ptr<LiveStream>& stream) ABSL_LOCKS_EXCLUDED(mutex_);
  void PokeAll() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndAll() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  std::list<std::shared_ptr<LiveStream>> Alive() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::list<std::weak_ptr<LiveStream>> streams_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_API_LIVE_STREAMS_H_
