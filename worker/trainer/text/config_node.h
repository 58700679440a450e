#ifndef LIGER_WORKER_TRAINER_TEXT_CONFIG_NODE_H_
#define LIGER_WORKER_TRAINER_TEXT_CONFIG_NODE_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/trainer/error.h"

namespace liger::trainer {

// A value in a JSON file that knows its file and its path there, so that every
// error says "tokenizer.json: pre_tokenizer.pretokenizers[1].type: ...".
// Refers to the JSON, which must outlive it.
class ConfigNode {
 public:
  ConfigNode(const nlohmann::json& value, std::string file, std::string path)
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  bool IsNull() const { return value_->is_null(); }
  bool IsString() const { return value_->is_string(); }
  // False for an absent key and for null.
  bool Has(const char* key) const;

  // REQUIRES the type; throws TrainerError (CONFIG) that names the place else.
  ConfigNode At(const char* key) const;
  std::string String() const;
  std::string String(const char* key) const { return At(key).String(); }
  bool Bool(const char* key, bool fallback) const;
  int64_t Int() const;
  std::vector<ConfigNode> Array() const;
  // Keys in the order of the JSON library (sorted).
  std::vector<std::pair<std::string, ConfigNode>> Object() const;
  // A string of exactly one character, as Rust's char is written.
  char32_t Char() const;

  [[noreturn]] void Fail(const std::string& what, const std::string& action = "") const;
  // `kind` is "pre-tokenizer" or the like; `known` the factory table's names.
  [[noreturn]] void FailUnknownType(const std::string& kind, const std::string& known) const;

  const nlohmann::json& json() const { return *value_; }

 private:
  const nlohmann::json* value_;
  std::string file_;
  std::string path_;
};

// A component table: one line a type. A component's place in the file is a
// ConfigNode with a string "type".
template <typename T>
struct ComponentEntry {
  const char* type;
  T (*make)(const ConfigNode& node);
};

// The component that `node` asks for; an unknown type is refused by name.
template <typename T, size_t N>
T MakeComponent(const ComponentEntry<T> (&table)[N], const char* kind, const ConfigNode& node) {
  const std::string type = node.String("type");
  std::string known;
  for (const ComponentEntry<T>& entry : table) {
    if (type == entry.type) return entry.make(node);
    known += known.empty() ? entry.type : std::string(", ") + entry.type;
  }
  node.At("type").FailUnknownType(kind, known);
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_CONFIG_NODE_H_
