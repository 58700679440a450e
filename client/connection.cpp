#include "client/connection.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/errors.h"
#include "client/local_file.h"
#include "client/outage.h"
#include "common/address.h"
#include "common/spec/suggest.h"
#include "common/tls.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace liger::client {
namespace {

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ConfigPath() {
  if (const std::string path = Env("LIGER_CONFIG"); !path.empty()) return path;
  return Env("HOME") + "/.config/liger/config.yaml";
}

// Throws for a key that is none of `known`.
void CheckKeys(const YAML::Node& node, const std::string& place,
               const std::vector<std::string>& known) {
  if (!node.IsMap()) {
    throw CliError(kInvalidInput,
                   absl::StrCat(place, ": must be a mapping with ", absl::StrJoin(known, ", ")));
  }
  for (const auto& entry : node) {
    const std::string key = entry.first.as<std::string>();
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    throw CliError(kInvalidInput,
                   absl::StrCat(place, ": '", key, "' is not a field", DidYouMean(key, known)));
  }
}

Endpoint ReadContext(const YAML::Node& entry, const std::string& place) {
  CheckKeys(entry, place, {"address", "ca_file", "cert_file", "key_file", "insecure"});
  const auto text = [&](const char* key) { return entry[key].as<std::string>(""); };
  const Endpoint endpoint = {text("address"), text("ca_file"), text("cert_file"), text("key_file"),
                             entry["insecure"] && entry["insecure"].as<bool>()};
  if (endpoint.address.empty()) {
    throw CliError(kInvalidInput, absl::StrCat(place, ": has no address; give host:port"));
  }
  return endpoint;
}

// The context of that name, or the current one when it is empty; an endpoint
// without an address when there is none.
Endpoint ContextEndpoint(std::string context) {
  const std::string path = ConfigPath();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    if (context.empty()) return {};
    throw CliError(kInvalidInput, absl::StrCat("--context ", context, ": there is no ", path));
  }
  try {
    const YAML::Node config = YAML::LoadFile(path);
    if (!config.IsNull()) CheckKeys(config, path, {"current_context", "contexts"});
    if (context.empty()) context = config["current_context"].as<std::string>("");
    if (context.empty()) return {};
    const YAML::Node contexts = config["contexts"];
    const YAML::Node entry = contexts ? contexts[context] : contexts;
    if (!entry) {
      throw CliError(kInvalidInput, absl::StrCat("context '", context, "' is not in ", path));
    }
    return ReadContext(entry, absl::StrCat(path, ": contexts.", context));
  } catch (const YAML::Exception& error) {
    throw CliError(kInvalidInput, absl::StrCat(path, ": ", error.what()));
  }
}

Endpoint BaseEndpoint(const Endpoint& flags, const std::string& context) {
  if (!context.empty()) return ContextEndpoint(context);
  Endpoint endpoint;
  endpoint.address = flags.address.empty() ? Env("LIGER_ADDRESS") : flags.address;
  if (endpoint.address.empty()) endpoint = ContextEndpoint("");
  if (endpoint.address.empty()) endpoint.address = kDefaultAddress;
  return endpoint;
}

std::string ReadPem(const std::string& path) { return path.empty() ? "" : ReadLocalFile(path); }

std::shared_ptr<grpc::ChannelCredentials> Credentials(const Endpoint& endpoint) {
  if (endpoint.cert_file.empty() != endpoint.key_file.empty()) {
    throw CliError(kInvalidInput, "--tls-cert and --tls-key belong together");
  }
  if (endpoint.ca_file.empty() && endpoint.cert_file.empty()) {
    if (IsLoopback(endpoint.address) || endpoint.insecure) {
      return grpc::InsecureChannelCredentials();
    }
    throw CliError(kInvalidInput,
                   absl::StrCat("the coordinator at ", endpoint.address,
                                " is not on loopback: give --tls-ca (with --tls-cert and "
                                "--tls-key), or --insecure for plaintext"));
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ReadPem(endpoint.ca_file);
  options.pem_cert_chain = ReadPem(endpoint.cert_file);
  options.pem_private_key = ReadPem(endpoint.key_file);
  if (!endpoint.ca_file.empty()) {
    ThrowIfError(CheckCertificate({"--tls-ca", endpoint.ca_file, options.pem_root_certs}));
  }
  if (!endpoint.cert_file.empty()) {
    ThrowIfError(CheckKeyPair({"--tls-cert", endpoint.cert_file, options.pem_cert_chain},
                              {"--tls-key", endpoint.key_file, options.pem_private_key}));
  }
  return grpc::SslCredentials(options);
}

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  // A coordinator that restarts should be found again at once; connecting takes
  // at most the minimum here (kSurelyConnected is longer).
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // A watch may be silent for hours: pings tell a dead peer from a quiet one.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The proxy of a company's web traffic does not lead to its coordinator.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

}  // namespace

Endpoint ResolveEndpoint(const Endpoint& flags, const std::string& context) {
  Endpoint endpoint = BaseEndpoint(flags, context);
  if (!flags.ca_file.empty()) endpoint.ca_file = flags.ca_file;
  if (!flags.cert_file.empty()) endpoint.cert_file = flags.cert_file;
  if (!flags.key_file.empty()) endpoint.key_file = flags.key_file;
  if (flags.insecure) endpoint.insecure = true;
  return endpoint;
}

Connection::Connection(Endpoint endpoint) : endpoint_(std::move(endpoint)) {
  if (!IsAddress(endpoint_.address)) {
    throw CliError(kInvalidInput, absl::StrCat("the coordinator's address '", endpoint_.address,
                                               "' is not host:port, such as ", kDefaultAddress));
  }
  channel_ = grpc::CreateCustomChannel(endpoint_.address, Credentials(endpoint_), Arguments());
  stub_ = liger::v1::FineTuning::NewStub(channel_);
}

void Connection::SetDeadline(grpc::ClientContext* context, double seconds) {
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}

void Connection::SayAwaited() {
  if (std::exchange(said_awaited_, true)) return;
  std::cerr << "no coordinator answers at " << endpoint_.address << ": trying again for "
            << absl::FormatDuration(kUnreachable)
            << "; start one with `liger-cli up`, or name yours with --address or LIGER_ADDRESS\n";
}

void Connection::Check(const grpc::Status& status) const {
  ThrowIfError(status, endpoint_.address);
}

}  // namespace liger::client
