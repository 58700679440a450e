#include "worker/trainer/data/batch.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace liger::trainer {
namespace {

// The sequences of `rows` in batch order: all first ones, then all second ones.
std::vector<const Example*> InBatchOrder(const ExampleSet& set, std::span<const int64_t> rows) {
  std::vector<const Example*> sequences;
  sequences.reserve(rows.size() * set.sequences_per_row());
  for (int64_t side = 0; side < set.sequences_per_row(); ++side) {
    for (const int64_t row : rows) {
      sequences.push_back(&set.sequences.at(row * set.sequences_per_row() + side));
    }
  }
  return sequences;
}

}  // namespace

Batch MakeBatch(const ExampleSet& set, std::span<const int64_t> rows) {
  const std::vector<const Example*> sequences = InBatchOrder(set, rows);
  Batch batch;
  batch.num_rows = static_cast<int64_t>(rows.size());
  for (const Example* s : sequences) batch.num_tokens += static_cast<int64_t>(s->input_ids.size());

  batch.input_ids_T = at::empty({batch.num_tokens}, at::kLong);
  batch.labels_T = at::empty({batch.num_tokens}, at::kLong);
  batch.positions_T = at::empty({batch.num_tokens}, at::kLong);
  batch.cu_seqlens_S1 = at::empty({static_cast<int64_t>(sequences.size()) + 1}, at::kInt);
  int64_t* ids = batch.input_ids_T.data_ptr<int64_t>();
  int64_t* labels = batch.labels_T.data_ptr<int64_t>();
  int64_t* positions = batch.positions_T.data_ptr<int64_t>();
  int32_t* cu_seqlens = batch.cu_seqlens_S1.data_ptr<int32_t>();

  int64_t start = 0;
  *cu_seqlens++ = 0;
  for (const Example* s : sequences) {
    const int64_t length = static_cast<int64_t>(s->input_ids.size());
    std::copy(s->input_ids.begin(), s->input_ids.end(), ids + start);
    std::copy(s->labels.begin(), s->labels.end(), labels + start);
    for (int64_t t = 0; t < length; ++t) {
      positions[start + t] = t;
      batch.num_target_tokens += t > 0 && s->labels[t] != kIgnoredLabel;
    }
    batch.max_seqlen = std::max(batch.max_seqlen, length);
    start += length;
    *cu_seqlens++ = static_cast<int32_t>(start);
  }
  return batch;
}

}  // namespace liger::trainer
