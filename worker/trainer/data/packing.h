#ifndef LIGER_WORKER_TRAINER_DATA_PACKING_H_
#define LIGER_WORKER_TRAINER_DATA_PACKING_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/trainer/data/example.h"

namespace liger::trainer {

enum class PackingStrategy {
  kNone,
  kBfd,      // best fit, decreasing: sequences stay whole
  kWrapped,  // one stream of tokens, cut every max_length
};

// "bfd" or "wrapped"; "" is bfd. Throws std::invalid_argument.
PackingStrategy ParsePackingStrategy(const std::string& name);

// Tokens [begin, end) of a sequence.
struct Piece {
  int64_t sequence = 0;
  int64_t begin = 0;
  int64_t end = 0;

  bool operator==(const Piece&) const = default;
};
using Pack = std::vector<Piece>;

// Sequences that are packed together, apart from the next such block: TRL packs
// within the batches of datasets.Dataset.map, whose default this is.
inline constexpr int64_t kPackingBlock = 1000;

// The packs of at most `max_length` tokens that trl.pack_dataset (TRL 1.16)
// makes of sequences of these lengths, in its order. bfd: of each block the
// longest sequences first, equal ones in order, each into the fullest pack that
// has room for it, of such packs the one that has had that much room for
// longest (Ding et al. 2024, "Fewer Truncations Improve Language Modeling");
// what a sequence has beyond max_length is left out. wrapped: each block's
// tokens in order, cut every max_length. Empty sequences are in no pack.
std::vector<Pack> MakePacks(std::span<const int64_t> lengths, int64_t max_length,
                            PackingStrategy strategy);

// Packs the sequences of `set`, which are then its pieces. Every piece is a
// sequence of its own: it attends to itself alone, its positions begin at 0 and
// nothing predicts its first token, so a pack's loss is the sum of its pieces'.
// (TRL's wrapped packs attend across borders; these do not.) Packs in which
// nothing is trained on are left out; returns how many.
// REQUIRES: set->kind is kSequence, not packed.
int64_t PackRows(PackingStrategy strategy, int64_t max_length, ExampleSet* set);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_PACKING_H_
