#include <exception>
#include <functional>
#include <iostream>

#include "client/commands/commands.h"
#include "client/errors.h"
#include "common/spec/suggest.h"
#include "common/version.h"

namespace liger::client {
namespace {

void AddGlobalFlags(CLI::App* app, Session* session) {
  CLI::Option* address =
      app->add_option("--address", session->flags.address,
                      "Coordinator, host:port (also LIGER_ADDRESS, or a context in the config)")
          ->group("Global");
  app->add_option("--context", session->context, "Named context of ~/.config/liger/config.yaml")
      ->group("Global")
      ->excludes(address);
  app->add_option("--tls-ca", session->flags.ca_file, "PEM file of the CA to trust")
      ->group("Global");
  app->add_option("--tls-cert", session->flags.cert_file, "PEM client certificate")
      ->group("Global");
  app->add_option("--tls-key", session->flags.key_file, "PEM key of it")->group("Global");
  app->add_flag("--insecure", session->flags.insecure,
                "Allow plaintext to a coordinator beyond loopback")
      ->group("Global");
  app->add_option("-o,--output-format", session->output_name, "table, json, yaml or name")
      ->group("Global");
}

ExitCode UnknownVerb(const CLI::App& app) {
  std::vector<std::string> names;
  for (const Verb& verb : kVerbs) names.emplace_back(verb.name);
  const std::string word = app.remaining().front();
  std::cerr << "error: '" << word << "' is not a verb" << DidYouMean(word, names)
            << "\nsee liger-cli --help\n";
  return kInvalidInput;
}

int Fail(const std::exception& error, int code) {
  std::cout.flush();
  std::cerr << "error: " << error.what() << "\n";
  return code;
}

int Run(int argc, char** argv) {
  CLI::App app("Fine-tune language models on a fleet of workers", "liger-cli");
  app.require_subcommand(1);
  app.fallthrough();  // global flags may stand behind the verb
  app.set_version_flag("--version", std::string("liger-cli ") + kVersion);
  Session session;
  AddGlobalFlags(&app, &session);
  std::function<ExitCode()> chosen;
  for (const Verb& verb : kVerbs) {
    CLI::App* sub = app.add_subcommand(verb.name, verb.help);
    sub->fallthrough();
    sub->callback([&chosen, &session, &verb, action = verb.declare(sub)] {
      chosen = [&session, &verb, action] {
        session.output = ParseOutput(session.output_name, verb.name, verb.outputs);
        return action(session);
      };
    });
  }
  try {
    app.parse(argc, argv);
    return chosen();
  } catch (const CLI::ParseError& error) {
    if (app.get_subcommands().empty() && !app.remaining().empty()) return UnknownVerb(app);
    return app.exit(error) == 0 ? kOk : kInvalidInput;  // prints help or what is wrong
  } catch (const CliError& error) {
    return Fail(error, error.code());
  } catch (const std::exception& error) {
    return Fail(error, kError);
  }
}

}  // namespace

Connection& Session::connection() {
  if (!connection_) connection_ = std::make_unique<Connection>(ResolveEndpoint(flags, context));
  return *connection_;
}

}  // namespace liger::client

int main(int argc, char** argv) { return liger::client::Run(argc, argv); }
