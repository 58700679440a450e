#ifndef LIGER_WORKER_TRAINER_TEXT_WORD_CACHE_H_
#define LIGER_WORKER_TRAINER_TEXT_WORD_CACHE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/text/string_map.h"

namespace liger::trainer {

// The ids of words seen before. Bounded: when full it starts anew, which keeps
// the words of the text at hand. For one thread at a time.
class WordCache {
 public:
  // Longer words hardly come twice.
  static constexpr size_t kMaxWordBytes = 64;
  static constexpr size_t kMaxWords = 1 << 16;

  // Appends the ids of `word` and returns true when it is known.
  bool Find(std::string_view word, std::vector<int32_t>* ids) const {
    if (word.size() > kMaxWordBytes) return false;
    const auto it = words_.find(word);
    if (it == words_.end()) return false;
    const auto begin = ids_.begin() + it->second.offset;
    if (it->second.count == 1) {
      ids->push_back(*begin);
    } else {
      ids->insert(ids->end(), begin, begin + it->second.count);
    }
    return true;
  }

  void Insert(std::string_view word, std::span<const int32_t> ids) {
    if (word.size() > kMaxWordBytes) return;
    if (words_.size() >= kMaxWords) {
      words_.clear();
      ids_.clear();
    }
    words_.emplace(word,
                   Entry{static_cast<uint32_t>(ids_.size()), static_cast<uint32_t>(ids.size())});
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  struct Entry {
    uint32_t offset, count;
  };
  StringMap<Entry> words_;
  std::vector<int32_t> ids_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_WORD_CACHE_H_
