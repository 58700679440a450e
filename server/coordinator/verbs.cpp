#include "server/coordinator/verbs.h"

#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/exit_code.h"
#include "common/wrapped_help.h"
#include "server/coordinator/backup.h"
#include "server/coordinator/health.h"
#include "server/rpc/grpc_server.h"

namespace liger::server {
namespace {

// One line, on success too.
int Report(const absl::Status& status, const std::string& done) {
  if (status.ok()) {
    std::printf("%s\n", done.c_str());
    return 0;
  }
  std::fprintf(stderr, "liger-coordinator: %s\n", std::string(status.message()).c_str());
  return StartupExitCode(status);
}

// The exit code when there is nothing more to do.
std::optional<int> Parse(CLI::App* app, int argc, char** argv) {
  app->formatter(WrappedHelp::Make());
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app->exit(error) == 0 ? 0 : kExitInvalidInput;
  }
  return std::nullopt;
}

int Backup(int argc, char** argv) {
  std::string data_dir, out;
  CLI::App app("Copies a coordinator's database and logs; it may run meanwhile",
               "liger-coordinator backup");
  app.add_option("--data-dir", data_dir, "The coordinator's data folder")->required();
  app.add_option("--out", out, "Folder to make; must not exist")->required();
  if (const auto code = Parse(&app, argc, argv)) return *code;
  return Report(BackUpDataFolder(data_dir, out), absl::StrCat("backed up ", data_dir, " to ", out));
}

int Restore(int argc, char** argv) {
  std::string data_dir, from;
  CLI::App app("Makes a data folder of a backup", "liger-coordinator restore");
  app.add_option("--from", from, "A folder that `backup` made")->required();
  app.add_option("--data-dir", data_dir,
                 "Folder to make; must not exist or be empty, see --set-aside")
      ->required();
  bool set_aside = false;
  app.add_flag("--set-aside", set_aside,
               "Rename a data folder that is there, unless a coordinator uses it");
  if (const auto code = Parse(&app, argc, argv)) return *code;
  return Report(RestoreDataFolder(from, data_dir, set_aside),
                absl::StrCat("restored ", from, " to ", data_dir,
                             "; start liger-coordinator on it as usual"));
}

int Health(int argc, char** argv) {
  HealthQuery query;
  bool ready = false;
  double timeout = absl::ToDoubleSeconds(query.timeout);
  CLI::App app("Exit code 0 when the port serves", "liger-coordinator health");
  app.add_option("--address", query.address, "The API's or the workers' port")
      ->capture_default_str();
  app.add_flag("--ready", ready, "Ask whether its store answers, too");
  app.add_option("--timeout", timeout, "Seconds")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--tls-ca", query.tls_ca, "PEM file with the CA of the port's certificate");
  app.add_option("--tls-cert", query.tls_cert, "PEM client certificate");
  app.add_option("--tls-key", query.tls_key, "PEM private key of --tls-cert");
  app.add_option("--tls-name", query.tls_name, "Name in the port's certificate");
  if (const auto code = Parse(&app, argc, argv)) return *code;
  if (ready) query.service = kReadinessService;
  query.timeout = absl::Seconds(timeout);
  const absl::Status status = CheckHealth(query);
  // Not a matter of its flags: no port answers, or the store does not.
  if (absl::IsUnavailable(status)) {
    Report(status, "");
    return 1;
  }
  return Report(status, ready ? "ready" : "serving");
}

}  // namespace

std::optional<int> RunVerb(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "backup") return Backup(argc - 1, argv + 1);
  if (verb == "restore") return Restore(argc - 1, argv + 1);
  if (verb == "health") return Health(argc - 1, argv + 1);
  return std::nullopt;
}

}  // namespace liger::server
