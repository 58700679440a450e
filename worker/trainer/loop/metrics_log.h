#ifndef LIGER_WORKER_TRAINER_LOOP_METRICS_LOG_H_
#define LIGER_WORKER_TRAINER_LOOP_METRICS_LOG_H_

#include <cstdint>
#include <fstream>
#include <map>
#include <string>

namespace liger::trainer {

// metrics.jsonl: one JSON object a line, a line for each logged step and each
// evaluation, under TRL's names with "step" first. A value that is not finite
// is written as null, since JSON has no NaN.
class MetricsLog {
 public:
  // Begins with what `before` holds, the log of a run that goes on; empty:
  // nothing. Throws TrainerError (STORAGE) when the file cannot be made.
  explicit MetricsLog(const std::string& path, const std::string& before = "");

  // Throws TrainerError (STORAGE) when the disk is full.
  void Append(int64_t step, const std::map<std::string, double>& values);

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::ofstream out_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_METRICS_LOG_H_
