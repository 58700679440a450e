#ifndef LIGER_WORKER_TRAINER_DATA_SAMPLER_H_
#define LIGER_WORKER_TRAINER_DATA_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "worker/trainer/data/batch.h"
#include "worker/trainer/data/epoch_order.h"

namespace liger::trainer {

// Where a run stands in its data. Independent of the batch size and of the
// number of ranks, so a checkpoint can be read at another world size.
struct DataPosition {
  int64_t epoch = 0;
  // Rows (packs, where they are packed) of this epoch that all ranks together
  // have consumed.
  int64_t row = 0;
};

struct BatchOptions {
  int64_t rows_per_batch = 8;  // of one rank
  bool shuffle = true;
  bool group_by_length = false;  // needs shuffle
  uint64_t data_seed = 42;
  // Of those that have rows of their own (Strategy::data_rank).
  int64_t rank = 0;
  int64_t world_size = 1;
};

// Global micro-batches of an epoch.
int64_t BatchesPerEpoch(const ExampleSet& set, const BatchOptions& options);
// Optimizer steps an epoch takes: ceil(batches / micro_batches).
int64_t StepsPerEpoch(const ExampleSet& set, const BatchOptions& options, int64_t micro_batches);

// Deals out a rank's micro-batches. Each global micro-batch takes
// rows_per_batch x world_size rows, rank r the r-th share; an epoch's last one
// may be smaller (transformers' dataloader_drop_last=False), and is empty on a
// rank for which no rows are left.
class BatchIterator {
 public:
  // `set` must outlive this. REQUIRES: set.num_rows() > 0.
  BatchIterator(const ExampleSet& set, const BatchOptions& options);

  // The next micro-batch of this epoch; nullopt once at its end, after which
  // the next epoch begins.
  std::optional<Batch> Next();

  // The micro-batches of one optimizer step: up to `micro_batches`, at least
  // one, never across an epoch's end (as transformers' Trainer, so an epoch's
  // last step may have fewer). Wraps into the next epoch by itself.
  std::vector<Batch> NextStep(int64_t micro_batches);

  int64_t batches_per_epoch() const;
  int64_t steps_per_epoch(int64_t micro_batches) const;
  // Epochs done so far, with the fraction of the present one.
  double epoch_progress() const;

  DataPosition position() const { return position_; }
  // Throws TrainerError (DATA) when the position lies outside of the data.
  void Seek(const DataPosition& position);

 private:
  void StartEpoch(int64_t epoch);

  const ExampleSet& set_;
  const BatchOptions options_;
  DataPosition position_;
  std::vector<int64_t> order_;
};

// All rows in order, for evaluation: rank r of W takes the same shares as above.
std::vector<Batch> EvalBatches(const ExampleSet& set, int64_t rows_per_batch, int64_t rank = 0,
                               int64_t world_size = 1);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_SAMPLER_H_
