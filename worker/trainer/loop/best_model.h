#ifndef LIGER_WORKER_TRAINER_LOOP_BEST_MODEL_H_
#define LIGER_WORKER_TRAINER_LOOP_BEST_MODEL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/dataset.h"

namespace liger::trainer {

// What evaluations decide: which step's model is the best one, and whether to
// stop early; as transformers' Trainer and its EarlyStoppingCallback do.
class BestModel {
 public:
  struct State {
    std::optional<double> metric;  // of the best evaluation
    int64_t step = 0;              // its step
    int64_t patience_used = 0;     // evaluations in a row without improvement
    // What was compared: "eval_loss, the lower the better"; "": of a checkpoint that does not say.
    std::string of;
    std::string rows;  // the evaluation's, in numbers
  };

  explicit BestModel(const liger::v1::TrainingSpec& training);

  // Whether the best evaluation matters to this job.
  bool tracks() const { return load_best_ || patience_ > 0; }
  bool load_best() const { return load_best_; }
  // "eval_loss"
  const std::string& metric() const { return metric_; }

  // Throws TrainerError (CONFIG) that lists the metrics there are when ours is
  // none of `values`, an evaluation's.
  void RequireMetric(const std::map<std::string, double>& values) const;
  // Takes the evaluation after `step`; true when it is the best so far. A metric
  // that is not finite is none.
  bool Update(int64_t step, const std::map<std::string, double>& values);
  // After early_stopping_patience evaluations in a row that were not better than
  // the best one before them by more than early_stopping_threshold.
  bool should_stop() const { return patience_ > 0 && state_.patience_used >= patience_; }

  // The rows that are evaluated, before the first Update.
  void SetRows(const DataStats& eval);

  const State& state() const { return state_; }
  // As people are told of it; a default one while there is none. `last_step`: after it training
  // ended, of `max_steps`.
  liger::v1::BestEvaluation Told(int64_t last_step, int64_t max_steps) const;
  // The field for whose sake evaluations of this job cannot be compared with those of `state`;
  // "": they can, or there was none. What was evaluated is compared after SetRows.
  std::string IncomparableFor(const State& state) const;
  // REQUIRES: they can.
  void Restore(const State& state);
  void Forget() { Restore({}); }

 private:
  bool Better(double value, double than) const;

  std::string metric_;
  bool greater_is_better_;
  bool load_best_;
  int64_t patience_;
  double threshold_;
  State state_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_BEST_MODEL_H_
