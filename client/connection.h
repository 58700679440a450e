#ifndef LIGER_CLIENT_CONNECTION_H_
#define LIGER_CLIENT_CONNECTION_H_

#include <memory>
#include <string>

#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "liger/v1/fine_tuning.grpc.pb.h"

namespace liger::client {

inline constexpr char kDefaultAddress[] = "127.0.0.1:7070";

// Where a coordinator is and how to trust it.
struct Endpoint {
  std::string address;
  // PEM files; with an empty ca_file and no client certificate the connection
  // is plaintext.
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
  // Plaintext to other machines.
  bool insecure = false;
};

// The context that is named, else the address in `flags`, else LIGER_ADDRESS,
// else the current context of $LIGER_CONFIG (default
// ~/.config/liger/config.yaml), else kDefaultAddress:
//
//   current_context: lab
//   contexts:
//     lab: {address: "gpu-box:7070", ca_file: ..., cert_file: ..., key_file: ..., insecure: false}
//
// Files of a context go with its address only; those in `flags` lie on top.
// Throws CliError for a context that does not exist and for a file that does
// not parse, has an unknown key or a context without an address.
Endpoint ResolveEndpoint(const Endpoint& flags, const std::string& context);

// The API of one coordinator, with deadlines set.
class Connection {
 public:
  // Throws CliError for what is no address, for files that cannot be read or do
  // not belong together, and for plaintext to another machine that `insecure`
  // does not allow.
  explicit Connection(Endpoint endpoint);

  const std::string& address() const { return endpoint_.address; }
  liger::v1::FineTuning::StubInterface& stub() { return *stub_; }

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // Calls a unary method and throws CliError when it fails:
  //   connection.Call(&FineTuning::StubInterface::GetJob, request)
  template <typename Request, typename Response>
  Response Call(grpc::Status (liger::v1::FineTuning::StubInterface::*method)(grpc::ClientContext*,
                                                                             const Request&,
                                                                             Response*),
                const Request& request, double deadline_seconds = 30) {
    return CallOn(*stub_, method, request, deadline_seconds);
  }

  // As Call, of another service of the same coordinator.
  template <typename Stub, typename Request, typename Response>
  Response CallOn(Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request, double deadline_seconds = 30) {
    grpc::ClientContext context;
    SetDeadline(&context, deadline_seconds);
    Response response;
    Check((stub.*method)(&context, request, &response));
    return response;
  }

  // Says, the first time, that a follower waits for a coordinator that is away.
  void SayAwaited();
  // Throws CliError unless ok.
  void Check(const grpc::Status& status) const;

 private:
  static void SetDeadline(grpc::ClientContext* context, double seconds);

  Endpoint endpoint_;
  bool said_awaited_ = false;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<liger::v1::FineTuning::StubInterface> stub_;
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_CONNECTION_H_
