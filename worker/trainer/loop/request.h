#ifndef LIGER_WORKER_TRAINER_LOOP_REQUEST_H_
#define LIGER_WORKER_TRAINER_LOOP_REQUEST_H_

#include <string>
#include <vector>

#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/data/token_cache_options.h"

namespace liger::trainer {

// A task to run, from an agent's Launch file or from an engineer's job file.
struct Request {
  liger::trainer::v1::Launch launch;
  TokenCacheOptions data_cache = {.dir = ""};
  // Without an agent: the run publishes its result itself, to this folder.
  std::string publish_to;

  bool alone() const { return !publish_to.empty(); }
  const liger::v1::JobSpec& spec() const { return launch.resolved_spec(); }
  std::vector<std::string> roots() const {
    return {launch.input_roots().begin(), launch.input_roots().end()};
  }
};

// Throws TrainerError (CONFIG) when the file is not a Launch, has another
// version, or holds an invalid spec.
Request ReadLaunch(const std::string& path);

struct SpecOptions {
  std::string spec_path;               // may be empty
  std::vector<std::string> overrides;  // "training.learning_rate=1e-5"
  std::string output;                  // overrides output.uri
  bool check = false;
  std::string trainer;  // "sft": instead of the file's, which keeps its settings
};

// Reads the job file, if there is one, applies trainer and overrides, validates and fills every
// default. The attempt's folder is a new one beside the output. Throws TrainerError (CONFIG) with
// every violation, one a line.
Request ReadSpec(const SpecOptions& options);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_REQUEST_H_
