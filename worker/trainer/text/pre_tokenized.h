#ifndef LIGER_WORKER_TRAINER_TEXT_PRE_TOKENIZED_H_
#define LIGER_WORKER_TRAINER_TEXT_PRE_TOKENIZED_H_

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace liger::trainer {

// The pieces that pre-tokenizers cut a text into, left to right, none empty.
// Pieces point into the text or, where a pre-tokenizer rewrote them, into
// memory that this object owns.
class PreTokenized {
 public:
  struct Piece {
    std::string_view text;
    // The piece begins where the whole input begins, nothing before it was removed
    // (Metaspace asks).
    bool at_start;
  };

  PreTokenized(std::string_view text, bool at_start) {
    if (!text.empty()) pieces_.push_back({text, at_start});
  }

  const std::vector<Piece>& pieces() const { return pieces_; }

  // Room for `size` bytes that lives as long as this object.
  char* Allocate(size_t size) {
    blocks_.emplace_back(new char[size]);
    return blocks_.back().get();
  }

  // Calls split(piece, emit) for each piece, and puts what it emits, by
  // emit(string_view), in the piece's place; empty ones are dropped.
  template <typename Split>
  void Refine(Split&& split) {
    scratch_.clear();
    for (const Piece& piece : pieces_) {
      const char* const begin = piece.text.data();
      bool at_start = piece.at_start;
      split(piece, [&](std::string_view part) {
        if (part.empty()) return;
        // A part of the piece itself, or one that was rewritten.
        const bool is_later = part.data() > begin && part.data() < begin + piece.text.size();
        scratch_.push_back({part, at_start && !is_later});
        at_start = false;
      });
    }
    pieces_.swap(scratch_);
  }

 private:
  std::vector<Piece> pieces_;
  std::vector<Piece> scratch_;
  std::vector<std::unique_ptr<char[]>> blocks_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_PRE_TOKENIZED_H_
