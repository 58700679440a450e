#include "worker/trainer/parallel/rank_status.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

constexpr char kRunAgain[] =
    "the attempt is run again; if it ends the same way, look at that rank's log and host";
// Of the fields of a status, the last of which may hold it, too.
constexpr char kSeparator = '\x1f';

std::string Seconds(double seconds) { return absl::StrCat(static_cast<int64_t>(seconds), " s"); }

std::string Ranks(const std::vector<size_t>& ranks) {
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "));
}

// No rank: it is not known which.
Farewell Failed(liger::v1::FailureClass failure_class, const std::string& message,
                std::optional<size_t> rank) {
  liger::v1::Failure failure = TrainerError(failure_class, message, kRunAgain).failure();
  failure.set_first_failed_rank(rank ? static_cast<int32_t>(*rank) : -1);
  return Farewell::Failed(std::move(failure));
}

// It only tells of what another rank's end led to.
bool Follows(const liger::v1::Failure& failure, size_t rank) {
  return failure.has_first_failed_rank() &&
         failure.first_failed_rank() != static_cast<int32_t>(rank);
}

std::optional<Farewell> WhoLeft(const std::vector<SeenRank>& ranks) {
  std::optional<Farewell> stopped, follows;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].status) continue;
    const Farewell& left = ranks[rank].status->left;
    if (left.kind == Farewell::Kind::kFailed && Follows(left.failure, rank)) {
      if (!follows) follows = left;
    } else if (left.kind == Farewell::Kind::kFailed) {
      Farewell verdict = left;
      verdict.failure.set_message(absl::StrCat("rank ", rank, ": ", left.failure.message()));
      verdict.failure.set_first_failed_rank(static_cast<int32_t>(rank));
      return verdict;
    } else if (left.kind == Farewell::Kind::kStopped && !stopped) {
      stopped = Farewell::Stopped(absl::StrCat("rank ", rank, ": ", left.reason));
    }
  }
  return follows ? follows : stopped;
}

bool Works(const SeenRank& rank) {
  return !rank.status || rank.status->left.kind == Farewell::Kind::kNone;
}

std::optional<Farewell> WhoIsSilent(const std::vector<SeenRank>& ranks, const WatchLimits& limits) {
  bool trouble = false;
  std::string waiting;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].status) continue;
    trouble |= !ranks[rank].status->error.empty();
    if (ranks[rank].status->waits_for > 0 && waiting.empty()) {
      waiting = absl::StrCat(", while rank ", rank, " waited for ", ranks[rank].status->what);
    }
  }
  // The one that has been silent for longest: on a busy host others may be late.
  std::optional<size_t> lost;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!Works(ranks[rank])) continue;
    if (!lost || ranks[rank].silent_s > ranks[*lost].silent_s) lost = rank;
  }
  const double limit = trouble ? limits.trouble_silence_s : limits.silence_s;
  if (!lost || ranks[*lost].silent_s <= limit) return std::nullopt;
  return Failed(liger::v1::FAILURE_CLASS_INFRA,
                absl::StrCat("rank ", *lost, " is lost: it has given no sign of life for ",
                             Seconds(ranks[*lost].silent_s), waiting),
                *lost);
}

std::optional<Farewell> WhoHangs(const std::vector<SeenRank>& ranks, const WatchLimits& limits) {
  const RankStatus* waiting = nullptr;
  for (const SeenRank& rank : ranks) {
    if (!rank.status || rank.status->waits_for == 0 || rank.status->waited_s <= limits.hang_s) {
      continue;
    }
    if (waiting == nullptr || rank.status->waits_for < waiting->waits_for) waiting = &*rank.status;
  }
  if (waiting == nullptr) return std::nullopt;
  std::vector<size_t> missing;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (ranks[rank].status && ranks[rank].status->issued >= waiting->waits_for) continue;
    const bool slow = ranks[rank].status && ranks[rank].status->in_slow_call;
    if (ranks[rank].idle_s <= (slow ? limits.slow_call_s : limits.hang_s)) return std::nullopt;
    missing.push_back(rank);
  }
  const std::string of =
      absl::StrCat(waiting->what, " (collective ", waiting->waits_for, ") hangs");
  if (!missing.empty()) {
    return Failed(liger::v1::FAILURE_CLASS_HANG,
                  absl::StrCat(of, ": ", Ranks(missing), " ", missing.size() == 1 ? "has" : "have",
                               " not joined it, nor made progress for ",
                               Seconds(ranks[missing[0]].idle_s)),
                  missing[0]);
  }
  for (const SeenRank& rank : ranks) {  // some may still be on their way to it
    if (rank.status->waits_for == 0 || rank.status->waited_s <= limits.hang_s) return std::nullopt;
  }
  return Failed(liger::v1::FAILURE_CLASS_HANG,
                absl::StrCat(of, ": all ranks have joined it, and for ", Seconds(waiting->waited_s),
                             " it has not ended; the network between them may be at fault"),
                std::nullopt);
}

std::optional<Farewell> WhatBroke(const std::vector<SeenRank>& ranks, const WatchLimits& limits) {
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].status || ranks[rank].status->error.empty() || !Works(ranks[rank]) ||
        ranks[rank].error_s <= limits.error_s) {
      continue;
    }
    return Failed(liger::v1::FAILURE_CLASS_INFRA,
                  absl::StrCat("rank ", rank, " lost its connection to another rank in ",
                               ranks[rank].status->what, ": ", ranks[rank].status->error),
                  rank);
  }
  return std::nullopt;
}

double PositiveVariable(const char* name, double default_value) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return default_value;
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !(value > 0)) {
    throw ConfigError(absl::StrCat(name, "='", text, "' is no positive number of seconds"),
                      "correct it, or unset it");
  }
  return value;
}

}  // namespace

std::string Farewell::ToText() const {
  switch (kind) {
    case Kind::kNone:
      return "";
    case Kind::kDone:
      return "D";
    case Kind::kStopped:
      return "S" + reason;
    case Kind::kFailed:
      return "F" + failure.SerializeAsString();
  }
  return "";
}

Farewell Farewell::FromText(const std::string& text) {
  if (text.empty()) return {};
  if (text == "D") return Done();
  if (text[0] == 'S') return Stopped(text.substr(1));
  Farewell farewell = Failed({});
  if (text[0] != 'F' || !farewell.failure.ParseFromString(text.substr(1))) {
    throw std::runtime_error("the gang's store holds something that is no farewell");
  }
  return farewell;
}

std::string RankStatus::ToText() const {
  const std::string separator(1, kSeparator);
  return absl::StrJoin(
      std::vector<std::string>{absl::StrCat(beat), absl::StrCat(issued), absl::StrCat(waits_for),
                               absl::StrCat(waited_s), absl::StrCat(ticks),
                               in_slow_call ? "1" : "0", what, error, left.ToText()},
      separator);
}

RankStatus RankStatus::FromText(const std::string& text) {
  constexpr int kFields = 9;
  const std::vector<std::string> fields =
      absl::StrSplit(text, absl::MaxSplits(kSeparator, kFields - 1));
  RankStatus status;
  if (fields.size() != kFields || !absl::SimpleAtoi(fields[0], &status.beat) ||
      !absl::SimpleAtoi(fields[1], &status.issued) ||
      !absl::SimpleAtoi(fields[2], &status.waits_for) ||
      !absl::SimpleAtod(fields[3], &status.waited_s) ||
      !absl::SimpleAtoi(fields[4], &status.ticks)) {
    throw std::runtime_error("the gang's store holds something that is no rank's status");
  }
  status.in_slow_call = fields[5] == "1";
  status.what = fields[6];
  status.error = fields[7];
  status.left = Farewell::FromText(fields[8]);
  return status;
}

WatchLimits WatchLimits::FromEnvironment() {
  WatchLimits limits;
  limits.silence_s = PositiveVariable("LIGER_PEER_TIMEOUT", limits.silence_s);
  limits.trouble_silence_s = std::min(limits.trouble_silence_s, limits.silence_s);
  limits.hang_s = PositiveVariable("LIGER_COLLECTIVE_TIMEOUT", limits.hang_s);
  limits.slow_call_s = std::max(limits.slow_call_s, limits.hang_s);
  limits.join_s = PositiveVariable("LIGER_JOIN_TIMEOUT", limits.join_s);
  return limits;
}

std::optional<Farewell> Judge(const std::vector<SeenRank>& ranks, const WatchLimits& limits) {
  if (auto left = WhoLeft(ranks)) return left;
  if (auto silent = WhoIsSilent(ranks, limits)) return silent;
  if (auto hung = WhoHangs(ranks, limits)) return hung;
  return WhatBroke(ranks, limits);
}

std::optional<Farewell> JudgeLeader(const SeenRank& rank_0, const WatchLimits& limits) {
  if (auto left = WhoLeft({rank_0})) return left;
  return WhoIsSilent({rank_0}, limits);
}

}  // namespace liger::trainer
