#ifndef LIGER_WORKER_TRAINER_DATA_BATCH_H_
#define LIGER_WORKER_TRAINER_DATA_BATCH_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace liger::trainer {

// Label of a token that contributes no loss.
inline constexpr int32_t kIgnoredLabel = -100;

// One tokenised sequence. labels is as long as input_ids and NOT shifted:
// labels[t] is input_ids[t], or kIgnoredLabel.
struct Example {
  std::vector<int32_t> input_ids;
  std::vector<int32_t> labels;
};

// One preference pair. In both sequences input_ids is prompt + answer and the
// prompt's labels are ignored. The two prompts may differ in their last token
// (TRL's ORPO, where a token merges across the boundary).
struct PairExample {
  Example chosen;
  Example rejected;
};

// What a row of a dataset is made of.
enum class RowKind {
  kSequence,  // SFT: one sequence
  kPair,      // DPO, ORPO: a chosen and a rejected sequence
};

// Tokenised rows. A pair lies in two neighbouring sequences, chosen first.
struct ExampleSet {
  RowKind kind = RowKind::kSequence;
  std::vector<Example> sequences;

  int64_t sequences_per_row() const { return kind == RowKind::kPair ? 2 : 1; }
  int64_t num_rows() const { return static_cast<int64_t>(sequences.size()) / sequences_per_row(); }
};

// Unpadded sequences of one forward pass, concatenated, on the host.
// T: tokens of all sequences; S: sequences (rows, or 2 x rows for pairs: every
// chosen sequence first, then every rejected one, as TRL concatenates).
struct Batch {
  at::Tensor input_ids_T;    // int64
  at::Tensor labels_T;       // int64, kIgnoredLabel = ignored, not shifted
  at::Tensor positions_T;    // int64, from 0 in each sequence
  at::Tensor cu_seqlens_S1;  // int32 [S + 1]: sequence s is tokens [cu[s], cu[s + 1])
  int64_t max_seqlen = 0;
  int64_t num_rows = 0;    // SFT rows, or pairs
  int64_t num_tokens = 0;  // T; all are real tokens
  // Tokens that are predicted: labels that are not ignored, less those at a
  // sequence's first token, which nothing predicts.
  int64_t num_target_tokens = 0;
};

// Concatenates the given rows of `set` in the given order. An empty list gives
// an empty batch (cu_seqlens = [0]), which a rank without rows needs.
Batch MakeBatch(const ExampleSet& set, std::span<const int64_t> rows);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_BATCH_H_
