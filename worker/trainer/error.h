#ifndef LIGER_WORKER_TRAINER_ERROR_H_
#define LIGER_WORKER_TRAINER_ERROR_H_

#include <stdexcept>
#include <string>
#include <utility>

#include "liger/v1/job.pb.h"

namespace liger::trainer {

// What every part of the trainer throws for a cause that the user can act on.
// Converted once, in main, to the Failed event. `message` names the thing that
// is wrong, `action` says what to do about it.
class TrainerError : public std::runtime_error {
 public:
  TrainerError(liger::v1::FailureClass failure_class, const std::string& message,
               std::string action = "")
      : std::runtime_error(message) {
    failure_.set_class_(failure_class);
    failure_.set_message(message);
    failure_.set_action(std::move(action));
  }
  // What another rank told.
  explicit TrainerError(liger::v1::Failure failure)
      : std::runtime_error(failure.message()), failure_(std::move(failure)) {}

  TrainerError& Field(const std::string& v) { failure_.set_field(v); return *this; }
  TrainerError& File(const std::string& v) { failure_.set_file(v); return *this; }
  // 1-based.
  TrainerError& Row(int64_t v) { failure_.set_row(v); return *this; }
  TrainerError& Step(int64_t v) { failure_.set_step(v); return *this; }
  // Where that is not this one; -1: it is not known which.
  TrainerError& FirstFailedRank(int v) {
    failure_.set_first_failed_rank(v);
    return *this;
  }

  const liger::v1::Failure& failure() const { return failure_; }

 private:
  liger::v1::Failure failure_;
};

inline TrainerError DataError(const std::string& message, std::string action = "") {
  return TrainerError(liger::v1::FAILURE_CLASS_DATA, message, std::move(action));
}
inline TrainerError ConfigError(const std::string& message, std::string action = "") {
  return TrainerError(liger::v1::FAILURE_CLASS_CONFIG, message, std::move(action));
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_ERROR_H_
