#ifndef LIGER_WORKER_TRAINER_TEXT_BPE_H_
#define LIGER_WORKER_TRAINER_TEXT_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "worker/trainer/text/model.h"

namespace liger::trainer {

// A BPE model as read from its file.
struct BpeConfig {
  // Adds a merge of `rank` for every way to make `token` of two tokens: how
  // SentencePiece and tiktoken, which rank tokens and not pairs, come to be BPE
  // over pairs. REQUIRES: the vocabulary is complete and has `token`; it is no
  // longer than kMaxSplitBytes (the work is quadratic).
  void AddSplits(std::string_view token, int32_t rank);
  static constexpr size_t kMaxSplitBytes = 4096;

  Vocabulary vocabulary;
  // A pair of vocabulary ids and the id of the joined token; the lowest rank is
  // joined first, and of equal ranks the leftmost. Pairs may share a rank.
  struct Merge {
    int32_t left, right, joined, rank;
  };
  std::vector<Merge> merges;
  std::optional<int32_t> unk_id;
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

// Byte pair encoding (Sennrich et al., https://arxiv.org/abs/1508.07909): the
// neighbours with the lowest rank are joined, leftmost first, until none can be.
class BpeModel : public Model {
 public:
  explicit BpeModel(BpeConfig config);

  std::unique_ptr<ModelScratch> NewScratch() const override;
  void Tokenize(std::string_view piece, ModelScratch* scratch,
                std::vector<int32_t>* ids) const override;
  const Vocabulary& vocabulary() const override { return config_.vocabulary; }

 private:
  struct Scratch;
  // rank << 32 | joined id; kNoMerge is larger than any.
  static constexpr uint64_t kNoMerge = ~uint64_t{0};
  uint64_t FindMerge(int32_t left, int32_t right) const;

  void TokenizeUncached(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;
  // The characters of `piece` as ids: vocabulary, byte fallback, unknown token.
  void InitialSymbols(std::string_view piece, std::vector<int32_t>* symbols) const;
  // A character as the vocabulary spells it at its place in the piece; a view of it or of *storage.
  std::string_view WithAffixes(std::string_view character, bool first, bool last,
                               std::string* storage) const;
  std::optional<int32_t> SymbolId(std::string_view symbol) const;
  // Its bytes, those of the affixes too, as `tokenizers` has it; false where a byte has no token.
  bool AppendBytes(std::string_view symbol, std::vector<int32_t>* symbols) const;
  // Both leave the merged ids in *symbols; the first is quadratic and fast for
  // words, the second O(n log n).
  void MergeShort(Scratch* scratch) const;
  void MergeLong(Scratch* scratch) const;

  const BpeConfig config_;
  absl::flat_hash_map<uint64_t, uint64_t> merges_;
  // Ids of one-character tokens below U+0800 (all of the byte alphabet), and of
  // <0x00> to <0xFF>; -1 for none.
  std::array<int32_t, 0x800> low_characters_;
  std::array<int32_t, 256> byte_tokens_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_BPE_H_
