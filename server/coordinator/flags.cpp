#include "server/coordinator/flags.h"

#include <chrono>
#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"

namespace liger::server {
namespace {

void AddSeconds(CLI::App* app, const std::string& name, absl::Duration* value,
                const std::string& help) {
  app->add_option_function<double>(
         name, [value](const double& seconds) { *value = absl::Seconds(seconds); }, help)
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber)
      ->default_str(std::to_string(absl::ToInt64Seconds(*value)));
}

void AddSecurityFlags(CLI::App* app, TransportSecurity* security) {
  app->add_option("--tls-cert", security->tls_cert, "PEM certificate of both gRPC ports");
  app->add_option("--tls-key", security->tls_key, "PEM private key of --tls-cert");
  app->add_option("--tls-client-ca", security->tls_client_ca,
                  "PEM CA; clients and workers must present a certificate that it signed");
  app->add_flag("--insecure", security->insecure,
                "Allow plaintext on addresses that other machines can reach");
}

void AddLeaseFlags(CLI::App* app, CoordinatorOptions* options) {
  AddSeconds(app, "--lease-heartbeat", &options->lease.heartbeat, "Workers' heartbeat interval");
  AddSeconds(app, "--lease-fence", &options->lease.fence,
             "Without a heartbeat acknowledged for so long a worker publishes nothing");
  AddSeconds(app, "--lease-reassign", &options->lease.reassign,
             "Without a heartbeat for so long a worker's jobs may start elsewhere");
  AddSeconds(app, "--lease-orphan-timeout", &options->lease.orphan_timeout,
             "A worker that hears nothing for so long stops its trainers");
  AddSeconds(app, "--prepare-timeout", &options->prepare_timeout,
             "Time for a worker to get ready for a job before it is placed anew");
}

// Not for users: what tests need to make the rare happen.
void AddHiddenFlags(CLI::App* app, CoordinatorOptions* options) {
  app->add_option_function<int64_t>(
         "--test-commit-delay-ms",
         [options](const int64_t& ms) {
           options->store.commit_delay = std::chrono::milliseconds(ms);
         },
         "Delay every commit")
      ->group("");
}

}  // namespace

void AddFlags(CLI::App* app, CoordinatorOptions* options) {
  app->add_option("--data-dir", options->data_dir, "Folder of the database and the jobs' logs")
      ->required();
  app->add_option("--listen", options->listen, "Address of the public API; port 0: a free one")
      ->capture_default_str();
  app->add_option("--worker-listen", options->worker_listen, "Address that workers connect to")
      ->capture_default_str();
  app->add_option("--metrics-listen", options->metrics_listen,
                  "Address of /metrics (HTTP); empty: none")
      ->capture_default_str();
  app->add_option("--catalog", options->catalog_file,
                  "YAML file with the names of models and datasets")
      ->check(CLI::ExistingFile);
  app->add_option("--ports-file", options->ports_file,
                  "Write the addresses that are served to this file, as JSON");
  app->add_flag("--restored-from-backup", options->store.raise_generation,
                "Give once after restoring --data-dir from a copy that `backup` did not make, so "
                "that workers' newer attempts are recognised as stale");
  app->add_option("--max-restarts", options->jobs.max_restarts,
                  "Attempts of a job that may be lost to infrastructure")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--stop-grace", options->jobs.stop_grace_seconds,
                  "Seconds a cancelled trainer has to stop by itself")
      ->check(CLI::Range(0.1, 8.0))
      ->capture_default_str();
  AddSecurityFlags(app, &options->security);
  AddLeaseFlags(app, options);
  AddHiddenFlags(app, options);
}

}  // namespace liger::server
