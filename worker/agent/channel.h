#ifndef LIGER_WORKER_AGENT_CHANNEL_H_
#define LIGER_WORKER_AGENT_CHANNEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "grpcpp/channel.h"
#include "worker/agent/options.h"

namespace liger::agent {

// To the coordinator's worker port: TLS when a CA or a certificate is given,
// otherwise plaintext, which beyond loopback needs --insecure
// (FAILED_PRECONDITION).
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const Options& options);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_CHANNEL_H_
