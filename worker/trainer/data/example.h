#ifndef LIGER_WORKER_TRAINER_DATA_EXAMPLE_H_
#define LIGER_WORKER_TRAINER_DATA_EXAMPLE_H_

#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "worker/trainer/data/token_ids.h"

namespace liger::trainer {

// Label of a token that contributes no loss.
inline constexpr int32_t kIgnoredLabel = -100;

// One tokenised sequence. labels is as long as input_ids and NOT shifted:
// labels[t] is input_ids[t], or kIgnoredLabel.
struct Example {
  TokenIds input_ids;
  TokenIds labels;
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

// The rows [begin, end) of one source of a weighted mix, of which an epoch
// takes `take`, > 0.
struct MixPart {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t take = 0;
};

// Tokenised rows. A pair lies in two neighbouring sequences, chosen first; a
// packed row in as many as its pack holds.
struct ExampleSet {
  RowKind kind = RowKind::kSequence;
  std::vector<Example> sequences;
  std::vector<uint8_t> desirable;  // one a row of kLabelled; 0 or 1
  // What the cut to max_length took off the end of each row of kLabelled, of which
  // an answer put behind another row's prompt may hold more. Empty: nothing was cut.
  std::vector<TokenIds> cut_answers;
  int64_t max_length = 0;  // that sequences were cut to; 0: none
  bool keep_end = false;   // the cut took the start off
  // Packed rows (packing.h): row r is sequences [pack_begins[r],
  // pack_begins[r + 1]). Empty: not packed.
  std::vector<int64_t> pack_begins;
  // Empty: an epoch takes every row once.
  std::vector<MixPart> mix;

  bool packed() const { return !pack_begins.empty(); }
  int64_t sequences_per_row() const { return kind == RowKind::kPair ? 2 : 1; }  // not packed
  int64_t num_rows() const {
    if (packed()) return static_cast<int64_t>(pack_begins.size()) - 1;
    return static_cast<int64_t>(sequences.size()) / sequences_per_row();
  }
  int64_t rows_per_epoch() const {
    if (mix.empty()) return num_rows();
    int64_t rows = 0;
    for (const MixPart& part : mix) rows += part.take;
    return rows;
  }
  // The sequences of a row: [first, second).
  std::pair<int64_t, int64_t> SequencesOf(int64_t row) const {
    if (packed()) return {pack_begins.at(row), pack_begins.at(row + 1)};
    return {row * sequences_per_row(), (row + 1) * sequences_per_row()};
  }
  // Tokens of a row, all of its sequences together.
  int64_t RowTokens(int64_t row) const {
    const auto [begin, end] = SequencesOf(row);
    int64_t tokens = 0;
    for (int64_t s = begin; s < end; ++s) tokens += std::ssize(sequences.at(s).input_ids);
    return tokens;
  }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_EXAMPLE_H_
