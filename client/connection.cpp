#include "client/connection.h"

#include <yaml-cpp/yaml.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "common/file.h"
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

std::string Text(const YAML::Node& node, const char* key) {
  return node[key] ? node[key].as<std::string>() : "";
}

// The context's endpoint; empty when no context is named or configured.
Endpoint ContextEndpoint(std::string context) {
  const std::string path = ConfigPath();
  if (!std::filesystem::exists(path)) {
    if (context.empty()) return {};
    throw CliError(kInvalidInput, absl::StrCat("--context ", context, ": there is no ", path));
  }
  try {
    const YAML::Node config = YAML::LoadFile(path);
    if (context.empty()) context = Text(config, "current_context");
    if (context.empty()) return {};
    const YAML::Node entry = config["contexts"][context];
    if (!entry) {
      throw CliError(kInvalidInput, absl::StrCat("context '", context, "' is not in ", path));
    }
    return {Text(entry, "address"), Text(entry, "ca_file"), Text(entry, "cert_file"),
            Text(entry, "key_file")};
  } catch (const YAML::Exception& error) {
    throw CliError(kInvalidInput, absl::StrCat(path, ": ", error.what()));
  }
}

std::string ReadPem(const std::string& path) {
  if (path.empty()) return "";
  auto content = ReadFile(path);
  ThrowIfError(content.status());
  return *std::move(content);
}

std::shared_ptr<grpc::ChannelCredentials> Credentials(const Endpoint& endpoint) {
  if (endpoint.ca_file.empty() && endpoint.cert_file.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ReadPem(endpoint.ca_file);
  options.pem_cert_chain = ReadPem(endpoint.cert_file);
  options.pem_private_key = ReadPem(endpoint.key_file);
  return grpc::SslCredentials(options);
}

}  // namespace

Endpoint ResolveEndpoint(const Endpoint& flags, const std::string& context) {
  Endpoint endpoint = ContextEndpoint(context);
  if (const std::string address = Env("LIGER_ADDRESS"); !address.empty() && context.empty()) {
    endpoint.address = address;
  }
  if (!flags.address.empty()) endpoint.address = flags.address;
  if (!flags.ca_file.empty()) endpoint.ca_file = flags.ca_file;
  if (!flags.cert_file.empty()) endpoint.cert_file = flags.cert_file;
  if (!flags.key_file.empty()) endpoint.key_file = flags.key_file;
  if (endpoint.address.empty()) endpoint.address = kDefaultAddress;
  return endpoint;
}

Connection::Connection(Endpoint endpoint) : endpoint_(std::move(endpoint)) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  // A coordinator that restarts should be found again at once.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  stub_ = liger::v1::FineTuning::NewStub(
      grpc::CreateCustomChannel(endpoint_.address, Credentials(endpoint_), arguments));
}

void Connection::SetDeadline(grpc::ClientContext* context, double seconds) {
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}

void Connection::Check(const grpc::Status& status) const {
  ThrowIfError(status, endpoint_.address);
}

}  // namespace liger::client
