#include "client/connection.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "client/errors.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "tests/unit/auth/certificates.h"

namespace liger::client {
namespace {

using liger::testing::Certificate;
using liger::testing::MakeSelfSigned;
using liger::testing::WriteTemp;
using ::testing::HasSubstr;
using ::testing::Not;

class ConnectionTest : public ::testing::Test {
 protected:
  ConnectionTest() {
    char name[] = "/tmp/liger_config.XXXXXX";
    close(mkstemp(name));
    config_ = name;
    setenv("LIGER_CONFIG", name, 1);
    unsetenv("LIGER_ADDRESS");
  }
  ~ConnectionTest() override {
    std::filesystem::remove(config_);
    unsetenv("LIGER_CONFIG");
    unsetenv("LIGER_ADDRESS");
  }

  void Config(const std::string& text) const { std::ofstream(config_) << text; }

  static std::string ErrorOf(const Endpoint& flags, const std::string& context = "") {
    try {
      Connection connection(ResolveEndpoint(flags, context));
    } catch (const CliError& error) {
      EXPECT_EQ(error.code(), kInvalidInput);
      return error.what();
    }
    return "";
  }

  std::string config_;
};

TEST_F(ConnectionTest, AnAddressOfItsOwnTakesNoFilesOfAContext) {
  Config("{current_context: lab, contexts: {lab: {address: 'lab:1', ca_file: /ca.pem}}}");
  EXPECT_EQ(ResolveEndpoint({}, "").address, "lab:1");
  EXPECT_EQ(ResolveEndpoint({}, "").ca_file, "/ca.pem");
  EXPECT_EQ(ResolveEndpoint({.cert_file = "/mine.pem"}, "").cert_file, "/mine.pem");
  const Endpoint by_flag = ResolveEndpoint({.address = "127.0.0.1:2"}, "");
  EXPECT_EQ(by_flag.address, "127.0.0.1:2");
  EXPECT_EQ(by_flag.ca_file, "");
  setenv("LIGER_ADDRESS", "127.0.0.1:3", 1);
  EXPECT_EQ(ResolveEndpoint({}, "").address, "127.0.0.1:3");
  EXPECT_EQ(ResolveEndpoint({}, "").ca_file, "");
  EXPECT_EQ(ResolveEndpoint({}, "lab").ca_file, "/ca.pem");
  EXPECT_EQ(ResolveEndpoint({.address = "127.0.0.1:2"}, "").address, "127.0.0.1:2");
}

TEST_F(ConnectionTest, MistakesInTheConfigNameTheFile) {
  const std::pair<const char*, const char*> cases[] = {
      {"{current_contxt: lab}", "'current_contxt' is not a field; did you mean 'current_context'?"},
      {"{contexts: {lab: {adress: 'x:1'}}}", "contexts.lab: 'adress' is not a field"},
      {"{contexts: {lab: {ca_file: /ca.pem}}}", "contexts.lab: has no address"},
      {"{contexts: {lab: 'x:1'}}", "contexts.lab: must be a mapping"},
      {"{contexts: {}}", "context 'lab' is not in"},
      {"{}", "context 'lab' is not in"},
      {"[1]", "must be a mapping"},
      {"{contexts: ", "yaml-cpp"}};
  for (const auto& [text, error] : cases) {
    Config(text);
    EXPECT_THAT(ErrorOf({}, "lab"), HasSubstr(error)) << text;
    EXPECT_THAT(ErrorOf({}, "lab"), HasSubstr(config_)) << text;
  }
}

TEST_F(ConnectionTest, PlaintextLeavesTheMachineOnlyWhenAllowed) {
  EXPECT_THAT(ErrorOf({.address = "gpu-box:7070"}), HasSubstr("or --insecure for plaintext"));
  EXPECT_EQ(ErrorOf({.address = "gpu-box:7070", .insecure = true}), "");
  EXPECT_EQ(ErrorOf({.address = "[::1]:7070"}), "");
  Config("{contexts: {lab: {address: 'gpu-box:1', insecure: true}}}");
  EXPECT_EQ(ErrorOf({}, "lab"), "");
}

TEST_F(ConnectionTest, CertificateAndKeyBelongTogether) {
  EXPECT_THAT(ErrorOf({.address = "gpu-box:1", .cert_file = "/c.pem"}),
              HasSubstr("--tls-cert and --tls-key belong together"));
  EXPECT_THAT(ErrorOf({.address = "gpu-box:1", .key_file = "/k.pem"}),
              HasSubstr("--tls-cert and --tls-key belong together"));
  EXPECT_THAT(ErrorOf({.address = "gpu-box:1", .ca_file = "/no/ca.pem"}), HasSubstr("/no/ca.pem"));
}

TEST_F(ConnectionTest, WhatIsWrongWithAPemFileIsSaidAtOnce) {
  const std::string dir = ::testing::TempDir();
  const std::string cert = WriteTemp(dir, "client.pem", MakeSelfSigned("client").cert_pem);
  const std::string other = WriteTemp(dir, "other.key", MakeSelfSigned("other").key_pem);
  EXPECT_THAT(ErrorOf({.address = "gpu-box:1", .cert_file = cert, .key_file = other}),
              HasSubstr("--tls-key: " + other + " does not belong to the certificate in " + cert));
  EXPECT_THAT(ErrorOf({.address = "gpu-box:1", .cert_file = other, .key_file = other}),
              HasSubstr("--tls-cert: " + other + " holds no PEM certificate"));
  EXPECT_THAT(ErrorOf({.address = "gpu-box:1", .ca_file = other}),
              HasSubstr("--tls-ca: " + other + " holds no PEM certificate"));
}

// Servers as the coordinator makes them; without TLS when `own` is null, with client
// certificates when `client_ca` is not.
class Listener {
 public:
  Listener(const Certificate* own, const Certificate* client_ca) {
    std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
    if (own != nullptr) {
      grpc::SslServerCredentialsOptions options(
          client_ca == nullptr ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                               : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
      options.pem_key_cert_pairs.push_back({own->key_pem, own->cert_pem});
      if (client_ca != nullptr) options.pem_root_certs = client_ca->cert_pem;
      credentials = grpc::SslServerCredentials(options);
    }
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  liger::v1::FineTuning::Service service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(ConnectionTest, AFailedHandshakeNamesTheFlagsOfTls) {
  const std::string dir = ::testing::TempDir();
  const Certificate own = MakeSelfSigned("server"), client = MakeSelfSigned("client"),
                    stranger = MakeSelfSigned("stranger");
  const Listener plain(nullptr, nullptr), tls(&own, nullptr), mutual(&own, &client);
  const std::string ca = WriteTemp(dir, "ca.pem", own.cert_pem);
  const std::string foreign = WriteTemp(dir, "foreign.pem", stranger.cert_pem);
  const std::string foreign_key = WriteTemp(dir, "foreign.key", stranger.key_pem);
  const auto error_of = [](const Endpoint& endpoint) -> std::string {
    Connection connection(endpoint);
    try {
      connection.Call(&liger::v1::FineTuning::StubInterface::GetJob, liger::v1::GetJobRequest());
    } catch (const CliError& error) {
      EXPECT_EQ(error.code(), kError);
      return error.what();
    }
    return "";
  };
  const std::pair<Endpoint, const char*> cases[] = {
      {{.address = plain.address(), .ca_file = ca}, "leave --tls-ca, --tls-cert and --tls-key out"},
      {{.address = tls.address()}, "if it speaks TLS, give --tls-ca"},
      {{.address = tls.address(), .ca_file = foreign}, "give the CA that signed it with --tls-ca"},
      {{.address = mutual.address(), .ca_file = ca}, "--tls-cert and --tls-key of one"},
      {{.address = mutual.address(),
        .ca_file = ca,
        .cert_file = foreign,
        .key_file = foreign_key},
       "--tls-cert and --tls-key of one"}};
  for (const auto& [endpoint, advice] : cases) {
    const std::string error = error_of(endpoint);
    EXPECT_THAT(error, HasSubstr(advice));
    EXPECT_THAT(error, Not(HasSubstr("liger-cli up")));
  }
  EXPECT_THAT(error_of({.address = "127.0.0.1:1"}), HasSubstr("start one with `liger-cli up`"));
}

}  // namespace
}  // namespace liger::client
