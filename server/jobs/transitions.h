#ifndef LIGER_SERVER_JOBS_TRANSITIONS_H_
#define LIGER_SERVER_JOBS_TRANSITIONS_H_

#include <array>

#include "liger/v1/job.pb.h"

// The job state machine: every legal transition, and nothing else. It is
// applied in one place, SetJobState in server/store/transition.h, inside the
// store's transaction. Terminal states have no way out (invariant I4).
//
//   VALIDATING -> QUEUED -> STARTING -> RUNNING -> SUCCEEDED | FAILED
//                              ^          |
//                              +- RECOVERING   (an attempt was lost; the next one has a new epoch)
//
//                                         |
//                                         +- PAUSING -> PAUSED -> QUEUED
//
// PREEMPTING has its place here; no command leads to it yet.
namespace liger::server {

using JobState = liger::v1::JobStatus::State;

struct Transition {
  JobState from;
  JobState to;
};

inline constexpr std::array kTransitions = {
    // The CHECK task passed; found something; the user gave up.
    Transition{liger::v1::JobStatus::VALIDATING, liger::v1::JobStatus::QUEUED},
    Transition{liger::v1::JobStatus::VALIDATING, liger::v1::JobStatus::FAILED},
    Transition{liger::v1::JobStatus::VALIDATING, liger::v1::JobStatus::CANCELLED},

    Transition{liger::v1::JobStatus::QUEUED, liger::v1::JobStatus::STARTING},
    Transition{liger::v1::JobStatus::QUEUED, liger::v1::JobStatus::PAUSED},
    Transition{liger::v1::JobStatus::QUEUED, liger::v1::JobStatus::FAILED},
    Transition{liger::v1::JobStatus::QUEUED, liger::v1::JobStatus::CANCELLED},

    // Back to QUEUED: a worker refused, or Prepare never reached it.
    Transition{liger::v1::JobStatus::STARTING, liger::v1::JobStatus::RUNNING},
    Transition{liger::v1::JobStatus::STARTING, liger::v1::JobStatus::QUEUED},
    Transition{liger::v1::JobStatus::STARTING, liger::v1::JobStatus::RECOVERING},
    Transition{liger::v1::JobStatus::STARTING, liger::v1::JobStatus::CANCELLING},
    Transition{liger::v1::JobStatus::STARTING, liger::v1::JobStatus::PAUSING},
    Transition{liger::v1::JobStatus::STARTING, liger::v1::JobStatus::FAILED},

    Transition{liger::v1::JobStatus::RUNNING, liger::v1::JobStatus::SUCCEEDED},
    Transition{liger::v1::JobStatus::RUNNING, liger::v1::JobStatus::FAILED},
    Transition{liger::v1::JobStatus::RUNNING, liger::v1::JobStatus::RECOVERING},
    Transition{liger::v1::JobStatus::RUNNING, liger::v1::JobStatus::CANCELLING},
    Transition{liger::v1::JobStatus::RUNNING, liger::v1::JobStatus::PAUSING},
    Transition{liger::v1::JobStatus::RUNNING, liger::v1::JobStatus::PREEMPTING},

    // A job that is asked to leave its devices may end by itself first. Back to
    // RUNNING: there is no room for its checkpoint.
    Transition{liger::v1::JobStatus::PAUSING, liger::v1::JobStatus::RUNNING},
    Transition{liger::v1::JobStatus::PAUSING, liger::v1::JobStatus::PAUSED},
    Transition{liger::v1::JobStatus::PAUSING, liger::v1::JobStatus::SUCCEEDED},
    Transition{liger::v1::JobStatus::PAUSING, liger::v1::JobStatus::FAILED},
    Transition{liger::v1::JobStatus::PAUSING, liger::v1::JobStatus::RECOVERING},
    Transition{liger::v1::JobStatus::PAUSING, liger::v1::JobStatus::CANCELLING},
    Transition{liger::v1::JobStatus::PAUSED, liger::v1::JobStatus::QUEUED},
    Transition{liger::v1::JobStatus::PAUSED, liger::v1::JobStatus::CANCELLED},
    Transition{liger::v1::JobStatus::PREEMPTING, liger::v1::JobStatus::QUEUED},
    Transition{liger::v1::JobStatus::PREEMPTING, liger::v1::JobStatus::SUCCEEDED},
    Transition{liger::v1::JobStatus::PREEMPTING, liger::v1::JobStatus::FAILED},
    Transition{liger::v1::JobStatus::PREEMPTING, liger::v1::JobStatus::RECOVERING},
    Transition{liger::v1::JobStatus::PREEMPTING, liger::v1::JobStatus::CANCELLING},

    // Waits for a placement as in QUEUED, but an attempt was already lost. To
    // RUNNING: its worker came back with it before the next one began.
    Transition{liger::v1::JobStatus::RECOVERING, liger::v1::JobStatus::RUNNING},
    Transition{liger::v1::JobStatus::RECOVERING, liger::v1::JobStatus::STARTING},
    Transition{liger::v1::JobStatus::RECOVERING, liger::v1::JobStatus::QUEUED},
    Transition{liger::v1::JobStatus::RECOVERING, liger::v1::JobStatus::PAUSED},
    Transition{liger::v1::JobStatus::RECOVERING, liger::v1::JobStatus::FAILED},
    Transition{liger::v1::JobStatus::RECOVERING, liger::v1::JobStatus::CANCELLED},

    // A model that is there before the cancel keeps the job out of CANCELLING altogether; one that
    // was on its way may arrive first.
    Transition{liger::v1::JobStatus::CANCELLING, liger::v1::JobStatus::CANCELLED},
    Transition{liger::v1::JobStatus::CANCELLING, liger::v1::JobStatus::SUCCEEDED},
};

constexpr bool IsLegalTransition(JobState from, JobState to) {
  for (const Transition& transition : kTransitions) {
    if (transition.from == from && transition.to == to) return true;
  }
  return false;
}

constexpr bool IsTerminal(JobState state) {
  return state == liger::v1::JobStatus::SUCCEEDED || state == liger::v1::JobStatus::FAILED ||
         state == liger::v1::JobStatus::CANCELLED;
}

// The job's current epoch names an attempt that may still run somewhere.
constexpr bool HasLiveAttempt(JobState state) {
  return state == liger::v1::JobStatus::STARTING || state == liger::v1::JobStatus::RUNNING ||
         state == liger::v1::JobStatus::PAUSING || state == liger::v1::JobStatus::PREEMPTING ||
         state == liger::v1::JobStatus::CANCELLING;
}

// The job waits for the scheduler to give it devices.
constexpr bool AwaitsPlacement(JobState state) {
  return state == liger::v1::JobStatus::QUEUED || state == liger::v1::JobStatus::RECOVERING;
}

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_TRANSITIONS_H_
