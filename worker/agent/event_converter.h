#ifndef LIGER_WORKER_AGENT_EVENT_CONVERTER_H_
#define LIGER_WORKER_AGENT_EVENT_CONVERTER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/worker/v1/worker.pb.h"

namespace liger::agent {

// A TaskEvent and the trainer event that it was made from.
struct ConvertedEvent {
  worker::v1::TaskEvent event;
  int source_rank = 0;
  int64_t source_seq = 0;
};

// Turns the events of a task's ranks into what the coordinator wants to know:
// lifecycle events of rank 0 one to one, steps at most once a second (latest wins),
// warnings and results of every rank. Keeps what the heartbeat reports.
class EventConverter {
 public:
  // `leading_rank`: the first of this worker. `gang`: the task has several ranks, of
  // which each one's progress is told.
  explicit EventConverter(int leading_rank, bool gang = false)
      : leading_rank_(leading_rank), gang_(gang) {}

  std::vector<ConvertedEvent> Convert(const trainer::v1::Event& event, absl::Time now);
  // The step that is due: a second after the last one, or at once when `force`. Of a
  // gang without a new step: what its ranks have come to.
  std::optional<ConvertedEvent> DueProgress(absl::Time now, bool force = false);

  // Phase, step, age of the last progress and peak memory; no ref.
  worker::v1::TaskStatus Status(absl::Time now) const;

 private:
  void Observe(const trainer::v1::Event& event, absl::Time now);
  // This rank's progress, which is about to change.
  v1::RankProgress& NoteRank(int rank);
  void SetPhase(trainer::v1::Phase phase, absl::Time now);
  void SetStep(int64_t step, absl::Time now);

  void FillRanks(worker::v1::ProgressReport* report) const;

  const int leading_rank_;
  const bool gang_;
  std::map<int, v1::RankProgress> ranks_;
  bool ranks_changed_ = false;  // since they were told
  std::optional<ConvertedEvent> pending_step_;
  absl::Time last_step_sent_ = absl::InfinitePast();
  std::map<std::string, int64_t> peak_bytes_, predicted_bytes_;  // by kind
  trainer::v1::Phase phase_ = trainer::v1::PHASE_UNSPECIFIED;
  int64_t step_ = 0;
  int64_t progress_ = 0;  // as Alive of the leading rank counts it
  absl::Time last_progress_ = absl::InfinitePast();
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_EVENT_CONVERTER_H_
