#ifndef LIGER_WORKER_TRAINER_DATA_EPOCH_ORDER_H_
#define LIGER_WORKER_TRAINER_DATA_EPOCH_ORDER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "worker/trainer/data/example.h"

namespace liger::trainer {

// Orders of rows in an epoch. All are pure functions of their arguments and the
// same on every machine, so that a run resumes without having saved any order;
// none depends on the batch size or the number of ranks.

// The numbers below n, shuffled.
std::vector<int64_t> EpochOrder(int64_t n, uint64_t data_seed, int64_t epoch);

// The rows of an epoch of `set`. Of a mix, each source's share goes on where the
// epoch before left off, through all of the source's rows before any comes
// again; without shuffling the sources are interleaved evenly.
std::vector<int64_t> EpochRows(const ExampleSet& set, bool shuffle, uint64_t data_seed,
                               int64_t epoch);

// `order` with rows of about the same length side by side: cut into megabatches,
// each sorted by decreasing length, and the longest row of all put first, so that
// what does not fit into memory shows at once. As the LengthGroupedSampler of
// transformers 5, but for the size of a megabatch: there 50 batches, or a quarter
// of the data set; here the same whatever the batch size, MegabatchRows(n).
std::vector<int64_t> GroupedByLength(std::vector<int64_t> order,
                                     const std::function<int64_t(int64_t row)>& length);

// The largest power of two that is at most 1024 and n / 4, at least 1: batches of
// the usual sizes do not straddle two megabatches.
int64_t MegabatchRows(int64_t n);

// How many rows or packs that is.
int64_t EpochSize(const ExampleSet& set);

// How many rows of an epoch each source of a mix gives: of as many rows as all
// sources have together, shares in proportion to the weights, rounded to the
// largest remainders, and at least one. REQUIRES: sizes and weights > 0.
std::vector<int64_t> MixShares(std::span<const int64_t> sizes, std::span<const double> weights);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_EPOCH_ORDER_H_
