#ifndef LIGER_CLIENT_EXPERIMENT_DISPLAY_H_
#define LIGER_CLIENT_EXPERIMENT_DISPLAY_H_

#include <string>

#include "client/connection.h"
#include "client/exit_code.h"
#include "client/job_display.h"
#include "liger/v1/experiments.pb.h"

namespace liger::client {

bool IsTerminal(liger::v1::Experiment::State state);

// Exit code that tells how an experiment ended.
ExitCode ExitCodeFor(liger::v1::Experiment::State state);

// "training.max_length 128, ..." of a point.
std::string PointLabel(const liger::v1::ExperimentPoint& point);

// "3 of 8 jobs done, 1 active, 1 out of memory".
std::string CountsLine(const liger::v1::ExperimentCounts& counts);

// State, cause, action, counts and every job, in lines of so many columns.
std::string ExperimentText(const liger::v1::Experiment& experiment, int columns);

struct FollowedExperiment {
  ExitCode code = kOk;
  liger::v1::Experiment experiment;
};

// Asks for the experiment until it is over, also while the coordinator is away
// (kUnreachable long at most), and says what changes. timeout_seconds 0: for ever.
// Ctrl-C detaches: the experiment goes on.
FollowedExperiment FollowExperiment(Connection& connection, const std::string& experiment,
                                    double timeout_seconds, const Screen& screen);

}  // namespace liger::client

#endif  // LIGER_CLIENT_EXPERIMENT_DISPLAY_H_
