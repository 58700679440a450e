#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/connection.h"
#include "client/errors.h"
#include "client/format.h"
#include "client/worker_names.h"
#include "common/spec/suggest.h"
#include "common/version.h"
#include "common/wrapped_help.h"
#include "grpc/support/log.h"

namespace liger::client {
namespace {

void AddGlobalFlags(CLI::App* app, Session* session) {
  CLI::Option* address =
      app->add_option(
             "--address", session->flags.address,
             absl::StrCat(
                 "Coordinator, host:port (default: LIGER_ADDRESS, else the config's current "
                 "context, else ",
                 kDefaultAddress, ")"))
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
  app->add_option("-o,--output-format", session->output_name,
                  "table (default), wide (with ids, nothing shortened), json, yaml or name")
      ->group("Global");
}

void AddFlags(const CLI::App& app, std::vector<std::string>* flags) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags->push_back("--" + name);
  }
}

// "; did you mean -f job.yaml?" where the verb that was named takes such a file, or "".
std::string MeantAsFile(const CLI::App& verb, const std::string& word) {
  for (const CLI::App* below : verb.get_subcommands()) return MeantAsFile(*below, word);
  const CLI::Option* file = verb.get_option_no_throw("--file");
  const bool takes_file = file != nullptr && file->check_sname("f");
  const bool is_file = absl::EndsWith(word, ".yaml") || absl::EndsWith(word, ".yml") ||
                       absl::EndsWith(word, ".json");
  return takes_file && is_file ? absl::StrCat("; did you mean -f ", word, "?") : "";
}

// What is wrong with a command line, with the nearest verb or flag.
std::string UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> verbs = app.get_subcommands();
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (unknown.empty() && verbs.empty()) {
    std::vector<std::string> all;
    for (const CLI::App* verb : app.get_subcommands({})) all.push_back(verb->get_name());
    return absl::StrCat("name a verb: ", absl::StrJoin(all, ", "));
  }
  // `experiment` has verbs below it, and does nothing by itself.
  const bool lacks_verb = !verbs.empty() && verbs.front()->get_require_subcommand_min() > 0 &&
                          verbs.front()->get_subcommands().empty();
  if (lacks_verb && (unknown.empty() || !unknown.front().starts_with('-'))) {
    std::vector<std::string> below;
    for (const CLI::App* verb : verbs.front()->get_subcommands({})) {
      below.push_back(verb->get_name());
    }
    if (unknown.empty()) {
      return absl::StrCat("name a verb of ", verbs.front()->get_name(), ": ",
                          absl::StrJoin(below, ", "));
    }
    return absl::StrCat("'", unknown.front(), "' is not a verb of ", verbs.front()->get_name(),
                        DidYouMean(unknown.front(), below));
  }
  if (unknown.empty()) return error.what();
  const std::string word = unknown.front().substr(0, unknown.front().find('='));
  std::vector<std::string> known;
  if (word.starts_with('-')) {
    AddFlags(app, &known);
    for (const CLI::App* verb : verbs) AddFlags(*verb, &known);
    return absl::StrCat("'", word, "' is not a flag", verbs.empty() ? "" : " of ",
                        verbs.empty() ? "" : verbs.front()->get_name(), DidYouMean(word, known));
  }
  if (!verbs.empty()) {
    return absl::StrCat("'", word, "' is one argument too many for ", verbs.front()->get_name(),
                        MeantAsFile(*verbs.front(), word));
  }
  for (const Verb& verb : kVerbs) known.emplace_back(verb.name);
  return absl::StrCat("'", word, "' is not a verb", DidYouMean(word, known));
}

ExitCode BadUsage(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> verbs = app.get_subcommands();
  std::cerr << "error: " << UsageError(app, error) << "\nsee liger-cli "
            << (verbs.empty() ? "" : verbs.front()->get_name() + " ") << "--help\n";
  return kInvalidInput;
}

int Fail(const std::string& message, int code) {
  std::cout.flush();
  std::cerr << "error: " << Printable(message) << "\n";
  return code;
}

// An error is for people, whatever -o says.
std::string ForPeople(Session& session, const std::string& message) {
  if (!absl::StrContains(message, "worker ")) return message;
  try {
    return WorkerNames::Of(session.connection()).PutInto(message);
  } catch (const CliError&) {
    return message;  // about the connection itself
  }
}

int Run(int argc, char** argv) {
  CLI::App app("Fine-tune language models on a fleet of workers", "liger-cli");
  app.formatter(WrappedHelp::Make());
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
    if (error.get_exit_code() != 0) return BadUsage(app, error);
    return app.exit(error);  // prints help or the version
  } catch (const CliError& error) {
    return Fail(ForPeople(session, error.what()), error.code());
  } catch (const std::exception& error) {
    return Fail(error.what(), kError);
  }
}

}  // namespace

}  // namespace liger::client

int main(int argc, char** argv) {
  // What gRPC logs of a connection that fails is in the error, too.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
  return liger::client::Run(argc, argv);
}
