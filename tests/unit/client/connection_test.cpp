#include "client/connection.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "client/errors.h"

namespace liger::client {
namespace {

using testing::HasSubstr;

class ConnectionTest : public testing::Test {
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

}  // namespace
}  // namespace liger::client
