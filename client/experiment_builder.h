#ifndef LIGER_CLIENT_EXPERIMENT_BUILDER_H_
#define LIGER_CLIENT_EXPERIMENT_BUILDER_H_

#include <string>
#include <vector>

#include "liger/v1/experiments.pb.h"

namespace liger::client {

// The flags of `experiment submit` that shape the experiment.
struct ExperimentFlags {
  std::string file;  // "-" reads standard input
  std::string name;
  int runs = 0;                    // 0: the file's
  std::vector<std::string> grids;  // training.per_device_train_batch_size=8,16
  std::vector<std::string> sets;   // job.model.random_init=true
};

// The file's experiment with the flags on top; files that exist here become
// absolute paths, as in BuildSpec. Throws CliError that names the file, line and
// field of every mistake.
liger::v1::ExperimentSpec BuildExperiment(const ExperimentFlags& flags,
                                          std::vector<std::string>* notes);

}  // namespace liger::client

#endif  // LIGER_CLIENT_EXPERIMENT_BUILDER_H_
