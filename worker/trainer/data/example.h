#ifndef LIGER_WORKER_TRAINER_DATA_EXAMPLE_H_
#define LIGER_WORKER_TRAINER_DATA_EXAMPLE_H_

#include <cstdint>
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
  kLabelled,  // KTO: one sequence, whose answer is desirable or not
};

// Tokenised rows. A pair lies in two neighbouring sequences, chosen first.
struct ExampleSet {
  RowKind kind = RowKind::kSequence;
  std::vector<Example> sequences;
  std::vector<uint8_t> desirable;  // one a row of kLabelled; 0 or 1
  int64_t max_length = 0;          // that sequences were cut to; 0: none

  int64_t sequences_per_row() const { return kind == RowKind::kPair ? 2 : 1; }
  int64_t num_rows() const { return static_cast<int64_t>(sequences.size()) / sequences_per_row(); }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_EXAMPLE_H_
