#ifndef LIGER_WORKER_TRAINER_DATA_BATCH_H_
#define LIGER_WORKER_TRAINER_DATA_BATCH_H_

#include <ATen/core/Tensor.h>

#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "worker/trainer/data/example.h"

namespace liger::trainer {

// An answer of a set: that of row `row`, `which` being kChosen (an only answer,
// too), kRejected, or the row whose answer is put behind `row`'s prompt.
struct AnswerKey {
  static constexpr int64_t kChosen = -1, kRejected = -2;
  int64_t row = 0, which = kChosen;

  auto operator<=>(const AnswerKey&) const = default;
};

// Unpadded sequences of one forward pass, concatenated, on the host.
// T: tokens of all sequences; S: sequences (rows, or 2 x rows for pairs: every
// chosen sequence first, then every rejected one, as TRL concatenates; or all
// sequences of each packed row, pack by pack).
struct Batch {
  at::Tensor input_ids_T;    // int64
  at::Tensor labels_T;       // int64, kIgnoredLabel = ignored, not shifted
  at::Tensor positions_T;    // int64, from 0 in each sequence
  at::Tensor cu_seqlens_S1;  // int32 [S + 1]: sequence s is tokens [cu[s], cu[s + 1])
  int64_t max_seqlen = 0;
  int64_t num_rows = 0;    // SFT rows, packs, or pairs
  int64_t num_tokens = 0;  // T; all are real tokens
  // Tokens that are predicted: labels that are not ignored, less those at a
  // sequence's first token, which nothing predicts.
  int64_t num_target_tokens = 0;

  // Rows of RowKind::kLabelled only.
  at::Tensor desirable_R;  // bool, one a row
  // Each row's prompt with the answer of another row, what KTO estimates its KL term with; the
  // whole answer, the sequence cut like the rows (TRL 1.16 cuts after it has mismatched, too).
  // Whose, MismatchedRows says.
  std::shared_ptr<const Batch> mismatched;

  // Rows of kPair and kLabelled: what a reference is asked about, in the order of
  // reference_logp_A. Of pairs, each chosen answer, then each rejected one; of
  // labelled rows, each row's answer, then each mismatched one.
  std::vector<AnswerKey> answers;
  // Log-probabilities of those answers under the reference, fp64, on the host;
  // undefined: they are to be computed.
  at::Tensor reference_logp_A;
};

// For each row of a micro-batch of labelled rows, the row whose answer is put behind its prompt:
// the one `k` places before it (the first follow the last), with the least k that gives the fewest
// rows an answer to their own prompt, which is 1, as in TRL 1.16, where that gives none. Such rows
// that remain (of a batch of one, or with one prompt more than half of the time) take the answer of
// the nearest of the 1024 rows before them in the set that has another prompt. Where none has, they
// keep what they have, and a batch of one takes the row before it in the set.
std::vector<int64_t> MismatchedRows(const ExampleSet& set, std::span<const int64_t> rows);

// Concatenates the given rows of `set` in the given order. An empty list gives
// an empty batch (cu_seqlens = [0]), which a rank without rows needs.
Batch MakeBatch(const ExampleSet& set, std::span<const int64_t> rows);
// The share [begin, end) of a micro-batch of several ranks, which is `rows`: Batch::mismatched
// pairs rows of all of them, as one rank that had them all would.
Batch MakeShare(const ExampleSet& set, std::span<const int64_t> rows, int64_t begin, int64_t end);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_BATCH_H_
