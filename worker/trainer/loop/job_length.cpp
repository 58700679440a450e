#include "worker/trainer/loop/job_length.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/plural.h"

namespace liger::trainer {

BatchOptions TrainBatchOptions(const liger::v1::JobSpec& spec, int64_t rank, int64_t world_size) {
  const auto& training = spec.training();
  BatchOptions options;
  options.rows_per_batch = training.per_device_train_batch_size();
  options.shuffle = spec.dataset().shuffle();
  options.group_by_length = training.group_by_length();
  options.data_seed = static_cast<uint64_t>(training.data_seed());
  options.rank = rank;
  options.world_size = world_size;
  return options;
}

int64_t TotalSteps(const liger::v1::TrainingSpec& training, int64_t steps_per_epoch) {
  if (training.max_steps() > 0) return training.max_steps();
  return static_cast<int64_t>(
      std::ceil(training.num_train_epochs() * static_cast<double>(steps_per_epoch)));
}

std::string DescribeLength(const liger::v1::TrainingSpec& training, int64_t steps_per_epoch) {
  const int64_t steps = TotalSteps(training, steps_per_epoch);
  const std::string epochs =
      ThreeDigits(static_cast<double>(steps) / static_cast<double>(steps_per_epoch));
  return absl::StrCat(Plural(steps, "optimizer step"), ", ", epochs,
                      epochs == "1" ? " epoch" : " epochs", " of ",
                      Plural(steps_per_epoch, "step"));
}

const char* LengthField(const liger::v1::TrainingSpec& training) {
  return training.max_steps() > 0 ? "training.max_steps" : "training.num_train_epochs";
}

}  // namespace liger::trainer
