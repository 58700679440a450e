#ifndef LIGER_WORKER_AGENT_TRAINER_CODE_H_
#define LIGER_WORKER_AGENT_TRAINER_CODE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/agent/spawner.h"

namespace liger::agent {

// The files that a trainer started now would run: its program, libtorch and whatever
// else it loads. Which these are only the trainer can tell (`liger-trainer
// --list-code`). Not thread-safe.
class TrainerCode {
 public:
  // `spawner` outlives it.
  TrainerCode(Spawner* spawner, std::string trainer, absl::Duration patience = absl::Seconds(10))
      : spawner_(*spawner), trainer_(std::move(trainer)), patience_(patience) {}

  // Over the states of these files, as the trainer's own Inputs event has it under
  // "code". Asks the trainer when one of them has changed, which takes about as long
  // as a trainer takes to start. Empty when it does not answer; it is asked again after
  // a minute.
  std::string Digest();
  // Why a trainer cannot start, as of the last Digest; empty: it can, or took too long to say.
  const std::string& fault() const { return fault_; }

 private:
  // What it printed and how it ended, each as far as it is known in time.
  struct Answer {
    std::optional<std::string> text;
    std::optional<int> wait_status;
  };
  absl::StatusOr<Answer> Run(const std::string& argument) const;
  // Empty: it has not answered.
  std::vector<std::string> Ask();
  // Of one that does not start at all, whatever it is asked.
  std::string WhyNotStarting() const;

  Spawner& spawner_;
  const std::string trainer_;
  const absl::Duration patience_;
  std::vector<std::string> files_;
  std::string digest_;
  std::string fault_;
  absl::Time not_before_ = absl::InfinitePast();
  bool warned_ = false;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_TRAINER_CODE_H_
