#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_FLAT_LAYOUT_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_FLAT_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace liger::trainer {

// How the parameters of one unit lie behind each other in one flat tensor, of which every rank
// of a group keeps an equal part: rank r elements [r n, (r + 1) n).
//
// Parameters begin at multiples of kAlign elements, and so do the ranks' parts: products find
// their operands aligned, and blocks of an 8-bit optimizer state (256 elements) begin at the same
// elements of a parameter whatever the number of ranks.
class FlatLayout {
 public:
  static constexpr int64_t kAlign = 256;

  struct Item {
    std::string name;
    std::vector<int64_t> shape;
    int64_t numel = 0;
    int64_t offset = 0;  // of its first element in the flat tensor
  };
  // What a rank keeps of one parameter: its elements [begin, begin + count), at `at` of the part.
  struct Slice {
    size_t item = 0;
    int64_t begin = 0, count = 0, at = 0;
  };

  FlatLayout(std::vector<Item> items, int64_t ranks);

  const std::vector<Item>& items() const { return items_; }
  int64_t ranks() const { return ranks_; }
  int64_t shard_numel() const { return shard_; }          // n
  int64_t numel() const { return shard_ * ranks_; }       // with what fills up
  std::vector<Slice> SlicesOf(int64_t rank) const;        // in the order of the items
  Slice SliceOf(size_t item, int64_t rank) const;         // count 0: none

 private:
  std::vector<Item> items_;
  int64_t ranks_ = 1, shard_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_FLAT_LAYOUT_H_
