#include "worker/trainer/data/sampler.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What a rank takes of the global micro-batch at `row` of `order`.
Batch RankShare(const ExampleSet& set, const std::vector<int64_t>& order, int64_t row,
                int64_t rows_per_batch, int64_t rank, int64_t world_size) {
  const int64_t left = std::ssize(order) - row;
  const std::span<const int64_t> rows(order.data() + row,
                                      std::min(left, rows_per_batch * world_size));
  const int64_t begin = std::min(std::ssize(rows), rank * rows_per_batch);
  const int64_t end = std::min(std::ssize(rows), begin + rows_per_batch);
  return MakeShare(set, rows, begin, end);
}

}  // namespace

int64_t BatchesPerEpoch(const ExampleSet& set, const BatchOptions& options) {
  return CeilDiv(EpochSize(set), options.rows_per_batch * options.world_size);
}

int64_t StepsPerEpoch(const ExampleSet& set, const BatchOptions& options, int64_t micro_batches) {
  return CeilDiv(BatchesPerEpoch(set, options), micro_batches);
}

BatchIterator::BatchIterator(const ExampleSet& set, const BatchOptions& options)
    : set_(set), options_(options) {
  if (set.num_rows() == 0) throw std::invalid_argument("a BatchIterator needs rows");
  StartEpoch(0);
}

void BatchIterator::StartEpoch(int64_t epoch) {
  position_ = {.epoch = epoch, .row = 0};
  order_ = EpochRows(set_, options_.shuffle, options_.data_seed, epoch);
  if (options_.group_by_length) {
    order_ =
        GroupedByLength(std::move(order_), [this](int64_t row) { return set_.RowTokens(row); });
  }
}

std::optional<Batch> BatchIterator::Next() {
  const int64_t n = std::ssize(order_);
  if (position_.row >= n) {
    StartEpoch(position_.epoch + 1);
    return std::nullopt;
  }
  Batch batch = RankShare(set_, order_, position_.row, options_.rows_per_batch, options_.rank,
                          options_.world_size);
  position_.row = std::min(n, position_.row + options_.rows_per_batch * options_.world_size);
  return batch;
}

std::vector<Batch> BatchIterator::NextStep(int64_t micro_batches) {
  std::vector<Batch> step;
  while (static_cast<int64_t>(step.size()) < micro_batches) {
    std::optional<Batch> batch = Next();
    if (batch.has_value()) {
      step.push_back(std::move(*batch));
    } else if (!step.empty()) {
      break;  // the epoch's last step is a short one
    }
  }
  return step;
}

int64_t BatchIterator::batches_per_epoch() const { return BatchesPerEpoch(set_, options_); }

int64_t BatchIterator::steps_per_epoch(int64_t micro_batches) const {
  return StepsPerEpoch(set_, options_, micro_batches);
}

double BatchIterator::epoch_progress() const {
  return static_cast<double>(position_.epoch) +
         static_cast<double>(position_.row) / static_cast<double>(order_.size());
}

void BatchIterator::Seek(const DataPosition& position) {
  if (position.epoch < 0 || position.row < 0 || position.row > std::ssize(order_)) {
    throw DataError("the checkpoint's data position (epoch " + std::to_string(position.epoch) +
                        ", row " + std::to_string(position.row) + ") is not within the data's " +
                        std::to_string(order_.size()) + " rows",
                    "Resume with the dataset that the run was started with.");
  }
  StartEpoch(position.epoch);
  position_ = position;
}

std::vector<Batch> EvalBatches(const ExampleSet& set, int64_t rows_per_batch, int64_t rank,
                               int64_t world_size) {
  std::vector<int64_t> order(set.num_rows());
  std::iota(order.begin(), order.end(), 0);
  std::vector<Batch> batches;
  for (int64_t row = 0; row < set.num_rows(); row += rows_per_batch * world_size) {
    batches.push_back(RankShare(set, order, row, rows_per_batch, rank, world_size));
  }
  return batches;
}

}  // namespace liger::trainer
