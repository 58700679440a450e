#ifndef LIGER_WORKER_TRAINER_PARALLEL_RANK_STATUS_H_
#define LIGER_WORKER_TRAINER_PARALLEL_RANK_STATUS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "liger/v1/job.pb.h"

namespace liger::trainer {

// Why a rank left its gang, or why the whole gang must end.
struct Farewell {
  enum class Kind { kNone, kDone, kStopped, kFailed };
  Kind kind = Kind::kNone;
  std::string reason;         // kStopped
  liger::v1::Failure failure;  // kFailed

  static Farewell Done() { return {Kind::kDone, "", {}}; }
  static Farewell Stopped(std::string reason) { return {Kind::kStopped, std::move(reason), {}}; }
  static Farewell Failed(liger::v1::Failure failure) {
    return {Kind::kFailed, "", std::move(failure)};
  }

  std::string ToText() const;
  static Farewell FromText(const std::string& text);
};

// What a rank says of itself, over and over.
struct RankStatus {
  int64_t beat = 0;       // rises each time
  int64_t issued = 0;     // collectives that it has joined
  int64_t waits_for = 0;  // the number of the one that it waits for; 0: it works
  double waited_s = 0;
  int64_t ticks = 0;  // worker/trainer/ticks.h
  bool in_slow_call = false;
  std::string what;   // what it waits for: "the gradients"
  std::string error;  // of a collective that failed here; else empty
  Farewell left;

  std::string ToText() const;
  // Throws std::runtime_error for what ToText did not write.
  static RankStatus FromText(const std::string& text);
};

// A rank as another one sees it, by its own clock.
struct SeenRank {
  std::optional<RankStatus> status;  // none: it has not said anything yet
  double silent_s = 0;               // since its beat rose
  double idle_s = 0;                 // since its ticks or collectives rose
  double error_s = 0;                // since it told of an error
};

struct WatchLimits {
  double silence_s = 15;
  // While a collective has failed somewhere, so that something is known to be wrong.
  double trouble_silence_s = 3;
  double hang_s = 90;
  double slow_call_s = 600;  // instead, for a rank that waits for a disk
  // Of an error that no silence or farewell explains.
  double error_s = 10;
  // In which all ranks have to join the gang, from when the first of them is there: before it a
  // rank only starts and plans, weights are loaded after it. With what comes on top of it
  // (rendezvous.cpp) less than 2 minutes.
  double join_s = 90;

  // LIGER_PEER_TIMEOUT, LIGER_COLLECTIVE_TIMEOUT and LIGER_JOIN_TIMEOUT, in seconds, in the place
  // of silence_s, hang_s and join_s. Throws TrainerError (CONFIG) for what is no positive number.
  static WatchLimits FromEnvironment();
};

// What the gang comes to, seen from one rank; nullopt while all is well:
// - a rank that failed or was stopped: the gang, too, for its reason and in its class; one that
//   failed by itself before one that tells of another's failure;
// - a rank that gave no sign of life (INFRA);
// - a collective that others have long waited in, and the ranks that have neither joined it nor
//   made progress (HANG);
// - a connection that broke without any of these (INFRA).
// Failures name the rank in the message and in first_failed_rank (-1: it is not known which).
std::optional<Farewell> Judge(const std::vector<SeenRank>& ranks, const WatchLimits& limits);
// The first two alone, of rank 0 by another rank, which does not know how the others are.
std::optional<Farewell> JudgeLeader(const SeenRank& rank_0, const WatchLimits& limits);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_RANK_STATUS_H_
