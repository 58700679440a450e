#include "worker/agent/event_converter.h"

#include <algorithm>
#include <utility>

namespace liger::agent {

using trainer::v1::Event;
using worker::v1::TaskEvent;

namespace {

constexpr absl::Duration kProgressInterval = absl::Seconds(1);
// A message is at most 1 MiB; a check of a broken file can find far more.
constexpr int kMaxViolations = 200, kMaxWarnings = 100;

trainer::v1::CheckResult Bounded(trainer::v1::CheckResult result) {
  if (result.violations_size() > kMaxViolations) {
    const int more = result.violations_size() - kMaxViolations;
    result.mutable_violations()->DeleteSubrange(kMaxViolations, more);
    (*result.mutable_stats())["violations_not_shown"] = more;
  }
  if (result.warnings_size() > kMaxWarnings) {
    const int more = result.warnings_size() - kMaxWarnings;
    result.mutable_warnings()->DeleteSubrange(kMaxWarnings, more);
    (*result.mutable_stats())["warnings_not_shown"] = more;
  }
  return result;
}

// Events that every rank's trainer may send on its own behalf.
bool FillFromAnyRank(const Event& event, TaskEvent& out) {
  switch (event.event_case()) {
    case Event::kWarning:
      *out.mutable_warning() = event.warning();
      return true;
    case Event::kSaved:
      *out.mutable_publish_request()->mutable_saved() = event.saved();
      return true;
    default:
      return false;
  }
}

// Events that say something about the task as a whole.
bool FillFromRankZero(const Event& event, TaskEvent& out) {
  switch (event.event_case()) {
    case Event::kPhase:
      *out.mutable_phase() = event.phase();
      return true;
    case Event::kEval:
      *out.mutable_eval() = event.eval();
      return true;
    case Event::kSample:
      *out.mutable_sample() = event.sample();
      return true;
    case Event::kCheckResult:
      *out.mutable_check_result() = Bounded(event.check_result());
      return true;
    case Event::kInputs:
      *out.mutable_inputs() = event.inputs();
      return true;
    default:
      return false;
  }
}

}  // namespace

std::vector<ConvertedEvent> EventConverter::Convert(const Event& event, absl::Time now) {
  Observe(event, now);
  const bool leading = event.rank() == leading_rank_;
  const bool speaks_for_all = leading && leading_rank_ == 0;
  if (event.has_step()) {
    if (!leading) return {};
    pending_step_.emplace();
    *pending_step_->event.mutable_progress()->mutable_step() = event.step();
    pending_step_->source_rank = event.rank();
    pending_step_->source_seq = event.seq();
    return {};
  }
  ConvertedEvent converted{{}, event.rank(), event.seq()};
  if (leading && event.has_ready()) {
    *converted.event.mutable_started()->mutable_ready() = event.ready();
  } else if (!FillFromAnyRank(event, converted.event) &&
             !(speaks_for_all && FillFromRankZero(event, converted.event))) {
    return {};
  }
  // In the order in which it happened: the last step, then what followed it.
  std::vector<ConvertedEvent> out;
  if (pending_step_) out.push_back(*DueProgress(now, /*force=*/true));
  out.push_back(std::move(converted));
  return out;
}

std::optional<ConvertedEvent> EventConverter::DueProgress(absl::Time now, bool force) {
  if (!pending_step_ && !(gang_ && ranks_changed_)) return std::nullopt;
  if (!force && now - last_step_sent_ < kProgressInterval) return std::nullopt;
  last_step_sent_ = now;
  if (!pending_step_) pending_step_.emplace().source_rank = leading_rank_;
  FillRanks(pending_step_->event.mutable_progress());
  ranks_changed_ = false;
  auto* report = pending_step_->event.mutable_progress();
  report->mutable_peak_memory_bytes()->insert(peak_bytes_.begin(), peak_bytes_.end());
  report->mutable_predicted_memory_bytes()->insert(predicted_bytes_.begin(),
                                                   predicted_bytes_.end());
  return std::exchange(pending_step_, std::nullopt);
}

void EventConverter::FillRanks(worker::v1::ProgressReport* report) const {
  if (!gang_) return;
  for (const auto& [rank, progress] : ranks_) *report->add_ranks() = progress;
}

void EventConverter::Observe(const Event& event, absl::Time now) {
  switch (event.event_case()) {
    case Event::kPhase:
      SetPhase(event.phase().phase(), now);
      break;
    case Event::kAlive:
      SetPhase(event.alive().phase(), now);
      SetStep(event.alive().step(), now);
      if (const auto known = ranks_.find(event.rank());
          known == ranks_.end() || known->second.step() != event.alive().step()) {
        NoteRank(event.rank()).set_step(event.alive().step());
      }
      if (event.rank() == leading_rank_ && event.alive().progress() > progress_) {
        progress_ = event.alive().progress();
        last_progress_ = now;
      }
      break;
    case Event::kStep:
      SetStep(event.step().step(), now);
      break;
    case Event::kMemory: {
      if (event.memory().predicted_bytes() > 0) {
        predicted_bytes_[event.memory().kind()] = event.memory().predicted_bytes();
      }
      int64_t& peak = peak_bytes_[event.memory().kind()];
      peak = std::max(peak, event.memory().peak_bytes());
      (*NoteRank(event.rank()).mutable_peak_memory_bytes())[event.memory().kind()] =
          event.memory().peak_bytes();
      break;
    }
    case Event::kReady:
    case Event::kEval:
    case Event::kSample:
    case Event::kSaved:
      last_progress_ = now;
      break;
    default:
      break;
  }
}

v1::RankProgress& EventConverter::NoteRank(int rank) {
  ranks_changed_ = true;
  v1::RankProgress& progress = ranks_[rank];
  progress.set_rank(rank);
  return progress;
}

void EventConverter::SetPhase(trainer::v1::Phase phase, absl::Time now) {
  if (phase != phase_ && phase != trainer::v1::PHASE_UNSPECIFIED) {
    phase_ = phase;
    last_progress_ = now;
  }
}

void EventConverter::SetStep(int64_t step, absl::Time now) {
  if (step > step_) {
    step_ = step;
    last_progress_ = now;
  }
}

worker::v1::TaskStatus EventConverter::Status(absl::Time now) const {
  worker::v1::TaskStatus status;
  status.set_phase(phase_);
  status.set_step(step_);
  if (last_progress_ != absl::InfinitePast()) {
    status.set_last_progress_age_seconds(absl::ToDoubleSeconds(now - last_progress_));
  }
  int64_t peak = 0;
  for (const auto& [kind, bytes] : peak_bytes_) peak = std::max(peak, bytes);
  status.set_peak_bytes(peak);
  return status;
}

}  // namespace liger::agent
