#ifndef LIGER_WORKER_AGENT_OPTIONS_H_
#define LIGER_WORKER_AGENT_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace liger::agent {

// liger-worker's settings, by flag (flags.h has the help texts).
struct Options {
  std::string coordinator = "127.0.0.1:7071";
  std::string data_dir;
  std::string model_root;
  std::string dataset_root;
  std::string output_root;
  // Folders below which jobs may name inputs by absolute path, too.
  std::vector<std::string> allow_paths;
  std::string advertise_address;  // empty: derived (advertised.h)
  // The liger-trainer program.
  std::string trainer;
  // Below 0: 1, or 0 beside GPUs.
  int cpu_slots = -1;
  // Where the ranks of a gang find rank 0, "first-last".
  std::string rank_ports = "29500-29999";
  // Network interface for NCCL and Gloo; empty: they choose.
  std::string socket_interface;

  // HTTP: /metrics, /healthz and /readyz. Empty: none.
  std::string metrics_listen = "127.0.0.1:0";

  std::string tls_ca, tls_cert, tls_key;
  bool insecure = false;

  int keep_failed_count = 5;
  absl::Duration keep_failed_for = absl::Hours(24);
  // Time trainers get to end at SIGTERM and for STOPs that name no grace.
  absl::Duration stop_grace = absl::Seconds(5);
  absl::Duration inventory_interval = absl::Seconds(10);
  // A trainer that says nothing for so long (Alive comes every 2 s) hangs.
  absl::Duration hang_timeout = absl::Minutes(2);
  // One whose work does not get on for so long, however alive it is, hangs too.
  // Longer than any single operation (a micro-batch) on a slow host.
  absl::Duration stall_timeout = absl::Minutes(30);
  // While it waits for a sync to its disk, which cannot tell how far it is.
  absl::Duration io_timeout = absl::Hours(2);
  // After its exit is acknowledged, a task's log gets this long to follow it.
  absl::Duration ship_timeout = absl::Seconds(30);
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_OPTIONS_H_
