#include "worker/agent/flags.h"

#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "common/exit_code.h"
#include "common/wrapped_help.h"
#include "worker/agent/fitness.h"
#include "worker/agent/version.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

std::string HomeFolder() {
  const char* home = getenv("HOME");
  return home != nullptr ? home : ".";
}

// The program that lies beside this one.
std::string Sibling(const std::string& name) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return error ? name : (self.parent_path() / name).string();
}

// Durations as the command line gives them.
struct Durations {
  double stop_grace_seconds, keep_failed_hours, inventory_seconds, hang_seconds, stall_seconds,
      io_seconds, ship_seconds;
};

void Declare(CLI::App& app, Options& o, Durations& d) {
  app.set_version_flag("--version", std::string("liger-worker ") + kVersion);
  app.add_option("--coordinator", o.coordinator, "The coordinator's worker port, host:port")
      ->capture_default_str();
  app.add_option("--data-dir", o.data_dir, "Identity, attempts and logs")->capture_default_str();
  app.add_option("--model-root", o.model_root,
                 "Models lie below this folder (default: <data-dir>/models)");
  app.add_option("--dataset-root", o.dataset_root,
                 "Data sets lie below this folder (default: <data-dir>/datasets)");
  app.add_option("--output-root", o.output_root,
                 "Results go below this folder (default: <data-dir>/outputs)");
  app.add_option("--allow-path", o.allow_paths,
                 "Jobs may name models and data sets below this folder, too, by absolute path; "
                 "may be given several times")
      ->type_name("FOLDER")
      ->allow_extra_args(false)
      ->check(CLI::ExistingDirectory);
  app.add_option("--advertise-address", o.advertise_address,
                 "Address at which other workers reach this one (default: that of "
                 "--socket-interface, or the one from which this host reaches the coordinator)")
      ->type_name("HOST");
  app.add_option("--trainer", o.trainer, "The liger-trainer program (default: beside this one)");
  app.add_option("--cpu-slots", o.cpu_slots,
                 "Jobs that may train on this host's processors at a time (default: 1, or 0 "
                 "where there is a GPU)")
      ->check(CLI::Range(0, 1024));
  app.add_option("--rank-ports", o.rank_ports,
                 "Ports at which the ranks of a job on several devices find its rank 0")
      ->type_name("FIRST-LAST")
      ->capture_default_str();
  app.add_option("--socket-interface", o.socket_interface,
                 "Network interface over which ranks reach each other (NCCL and Gloo; default: "
                 "they choose)")
      ->type_name("NAME");
  app.add_option("--metrics-listen", o.metrics_listen,
                 "host:port of /metrics, /healthz and /readyz; empty: none; port 0: any")
      ->capture_default_str();
  app.add_option("--tls-ca", o.tls_ca, "PEM file with the CA of the coordinator's certificate");
  app.add_option("--tls-cert", o.tls_cert, "PEM file with this worker's certificate");
  app.add_option("--tls-key", o.tls_key, "PEM file with its key");
  app.add_flag("--insecure", o.insecure, "Allow plaintext to a coordinator beyond loopback");
  app.add_option("--stop-grace", d.stop_grace_seconds,
                 "Seconds that trainers get to end at SIGTERM before they are killed")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--keep-failed", o.keep_failed_count,
                 "Folders of failed attempts to keep below <data-dir>/failed")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--keep-failed-hours", d.keep_failed_hours, "and for how long")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--inventory-interval", d.inventory_seconds,
                 "Seconds between scans of the model and data set roots; a folder that changes is "
                 "scanned at once")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--hang-timeout", d.hang_seconds,
                 "Seconds without a sign of life after which a trainer is killed")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--stall-timeout", d.stall_seconds,
                 "Seconds without progress (a micro-batch, rows, a tensor) after which a trainer "
                 "is killed, however alive it is")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--io-timeout", d.io_seconds,
                 "The same while it waits for the disk to take what it saves, if that is longer")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--ship-timeout", d.ship_seconds,
                 "Seconds with a coordinator that the log of a finished task gets to reach it")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
}

void FillDefaults(Options& o) {
  // Trainers run in other folders: relative paths would mean others there.
  o.data_dir = fs::absolute(o.data_dir).lexically_normal().string();
  if (o.model_root.empty()) o.model_root = o.data_dir + "/models";
  if (o.dataset_root.empty()) o.dataset_root = o.data_dir + "/datasets";
  if (o.output_root.empty()) o.output_root = o.data_dir + "/outputs";
  if (o.trainer.empty()) o.trainer = Sibling("liger-trainer");
  o.trainer = fs::absolute(o.trainer).string();
}

}  // namespace

std::optional<Options> ParseFlags(int argc, char** argv, int* exit_code) {
  Options options;
  options.data_dir = HomeFolder() + "/.liger/worker";
  Durations durations{absl::ToDoubleSeconds(options.stop_grace),
                      absl::ToDoubleHours(options.keep_failed_for),
                      absl::ToDoubleSeconds(options.inventory_interval),
                      absl::ToDoubleSeconds(options.hang_timeout),
                      absl::ToDoubleSeconds(options.stall_timeout),
                      absl::ToDoubleSeconds(options.io_timeout),
                      absl::ToDoubleSeconds(options.ship_timeout)};
  CLI::App app{"liger-worker: runs the coordinator's training tasks on this host."};
  app.formatter(WrappedHelp::Make());
  Declare(app, options, durations);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    *exit_code = app.exit(error) == 0 ? 0 : kExitInvalidInput;
    return std::nullopt;
  }
  options.stop_grace = absl::Seconds(durations.stop_grace_seconds);
  options.keep_failed_for = absl::Hours(durations.keep_failed_hours);
  options.inventory_interval = absl::Seconds(durations.inventory_seconds);
  options.hang_timeout = absl::Seconds(durations.hang_seconds);
  options.stall_timeout = absl::Seconds(durations.stall_seconds);
  options.io_timeout = absl::Seconds(durations.io_seconds);
  options.ship_timeout = absl::Seconds(durations.ship_seconds);
  FillDefaults(options);
  if (access(options.trainer.c_str(), X_OK) != 0) {
    fprintf(stderr, "liger-worker: no program at %s: give --trainer\n", options.trainer.c_str());
    *exit_code = kExitInvalidInput;
    return std::nullopt;
  }
  if (const std::string fault = InterfaceFault(options.socket_interface); !fault.empty()) {
    fprintf(stderr, "liger-worker: %s\n", fault.c_str());
    *exit_code = kExitInvalidInput;
    return std::nullopt;
  }
  return options;
}

}  // namespace liger::agent
