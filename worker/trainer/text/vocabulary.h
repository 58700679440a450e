#ifndef LIGER_WORKER_TRAINER_TEXT_VOCABULARY_H_
#define LIGER_WORKER_TRAINER_TEXT_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/text/string_map.h"

namespace liger::trainer {

// Tokens and their ids, both ways. Built once, then read from any thread.
class Vocabulary {
 public:
  // Larger ids are refused by the reader: they would only cost memory.
  static constexpr int64_t kMaxId = (1 << 24) - 1;

  // A token given twice keeps its last id; an id given twice, its last token.
  // REQUIRES: 0 <= id <= kMaxId.
  void Add(std::string_view token, int32_t id);

  std::optional<int32_t> Find(std::string_view token) const {
    const auto it = ids_.find(token);
    if (it == ids_.end()) return std::nullopt;
    return it->second;
  }
  // Null when no token has this id.
  const std::string* Token(int32_t id) const;

  // Number of distinct tokens.
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  int32_t max_id() const { return static_cast<int32_t>(tokens_.size()) - 1; }
  void Reserve(size_t tokens) { ids_.reserve(tokens); }

 private:
  StringMap<int32_t> ids_;
  std::vector<std::optional<std::string>> tokens_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_VOCABULARY_H_
