#ifndef LIGER_SERVER_STORE_MEMORY_MAP_H_
#define LIGER_SERVER_STORE_MEMORY_MAP_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "server/store/memory_tables.h"

// What the tables in memory do with their maps.
namespace liger::server {

template <typename Map, typename Predicate>
auto Where(const Map& map, Predicate predicate) {
  std::vector<typename Map::mapped_type> rows;
  for (const auto& [key, row] : map) {
    if (predicate(row)) rows.push_back(row);
  }
  return rows;
}

template <typename Map>
auto Find(const Map& map, const typename Map::key_type& key)
    -> std::optional<typename Map::mapped_type> {
  const auto found = map.find(key);
  if (found == map.end()) return std::nullopt;
  return found->second;
}

template <typename Rows>
void KeepFirst(Rows* rows, int32_t limit) {
  if (limit > 0 && rows->size() > static_cast<size_t>(limit)) rows->resize(limit);
}

template <typename Map>
void MemoryTables::Write(Map* map, const typename Map::key_type& key,
                         std::optional<typename Map::mapped_type> value) {
  auto set = [map, key](const std::optional<typename Map::mapped_type>& to) {
    if (to.has_value()) {
      map->insert_or_assign(key, *to);
    } else {
      map->erase(key);
    }
  };
  undo_.push_back([set, before = Find(*map, key)] { set(before); });
  set(value);
}

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_MEMORY_MAP_H_
