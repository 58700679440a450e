#ifndef LIGER_WORKER_TRAINER_LOOP_INPUT_WATCH_H_
#define LIGER_WORKER_TRAINER_LOOP_INPUT_WATCH_H_

#include <map>
#include <string>

#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/loop/inputs.h"

namespace liger::trainer {

// Whether a job ran on and read one state of its code, model and data from its beginning
// to its end. Copyable.
class InputWatch {
 public:
  // Looks at them. To be made before the first of them is read.
  InputWatch(const liger::v1::JobSpec& spec, const InputPaths& paths);

  // A chat template that asks for the time makes another text of the same files.
  void AddText(const TextInputs& text);

  // Looks again: the digests (common/file_state.h) of what has not changed, by the names
  // that the coordinator has for them (server/store/worker_files.h), and "clock" where the
  // time is another input. Of a folder or pattern with several files there is none.
  liger::trainer::v1::Inputs Unchanged() const;

 private:
  std::map<std::string, std::string> Look() const;

  liger::v1::JobSpec spec_;
  InputPaths paths_;
  std::map<std::string, std::string> before_;
  bool reads_clock_ = false;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_INPUT_WATCH_H_
