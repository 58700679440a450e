#include "worker/trainer/text/vocabulary.h"

namespace liger::trainer {

void Vocabulary::Add(std::string_view token, int32_t id) {
  ids_.insert_or_assign(std::string(token), id);
  if (id > max_id()) tokens_.resize(id + 1);
  tokens_[id] = std::string(token);
}

const std::string* Vocabulary::Token(int32_t id) const {
  if (id < 0 || id > max_id() || !tokens_[id]) return nullptr;
  return &*tokens_[id];
}

}  // namespace liger::trainer
