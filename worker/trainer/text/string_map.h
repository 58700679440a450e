#ifndef LIGER_WORKER_TRAINER_TEXT_STRING_MAP_H_
#define LIGER_WORKER_TRAINER_TEXT_STRING_MAP_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

namespace liger::trainer {

// Debian's Abseil has a string_view of its own, so the default hash does not
// take std::string_view for a std::string key; this one does.
struct TransparentStringHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};

template <typename V>
using StringMap = absl::flat_hash_map<std::string, V, TransparentStringHash, std::equal_to<>>;
using StringSet = absl::flat_hash_set<std::string, TransparentStringHash, std::equal_to<>>;

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_STRING_MAP_H_
