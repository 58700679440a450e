#ifndef LIGER_CLIENT_OUTAGE_H_
#define LIGER_CLIENT_OUTAGE_H_

#include <optional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"

namespace liger::client {

// How long a coordinator may be away before a follower gives up.
inline constexpr absl::Duration kUnreachable = absl::Minutes(2);

// Longer than connecting may take (connection.cpp): a stream that lived for so
// long was connected, also when it brought nothing.
inline constexpr absl::Duration kSurelyConnected = absl::Seconds(15);

// Until there is a connection, for that long at most. A channel whose calls fail at
// once gets on only while somebody waits for it (else every 5 s).
inline void AwaitConnection(grpc::Channel& channel, absl::Duration at_most) {
  channel.WaitForConnected(absl::ToChronoTime(absl::Now() + at_most));
}

// Measures for how long a coordinator has been away, over streams that fail.
class Outage {
 public:
  // A stream that began at `began` and brought something or not (`heard`) ended
  // at `now`. True when it is time to give up.
  bool StreamFailed(absl::Time began, bool heard, absl::Time now) {
    if (heard || now - began > kSurelyConnected) since_.reset();
    if (!since_) since_ = now;
    return now - *since_ > kUnreachable;
  }

 private:
  std::optional<absl::Time> since_;
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_OUTAGE_H_
