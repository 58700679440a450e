#ifndef LIGER_WORKER_TRAINER_MODELS_CONFIG_READER_H_
#define LIGER_WORKER_TRAINER_MODELS_CONFIG_READER_H_

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace liger::trainer {

// Larger than any model's, small enough that nothing computed of them overflows
// and that a config of nonsense is refused before a model is built of it.
inline constexpr int64_t kMaxConfigSize = int64_t{1} << 26;

// One JSON object of a config.json, with messages that name the key; null counts
// as absent, as in transformers. Remembers which keys were asked for. All getters
// throw ConfigError for a value of another kind.
class ConfigReader {
 public:
  using Json = nlohmann::json;

  // `json` must outlive this; `file` and `prefix` are for messages.
  ConfigReader(const Json& json, std::string file, std::string prefix = "");

  const Json* Find(const char* key) const;
  // In the file, be it null.
  bool Contains(const char* key) const { return json_.contains(key); }
  bool Asked(const std::string& key) const { return asked_.count(key) != 0; }

  // An integer in [1, max].
  int64_t Size(const char* key, std::optional<int64_t> fallback = std::nullopt,
               int64_t max = kMaxConfigSize) const;
  // The same, or none: where null and absent differ, `absent` is what absent means.
  std::optional<int64_t> SizeOrNone(const char* key, std::optional<int64_t> absent) const;
  double Positive(const char* key, std::optional<double> fallback = std::nullopt) const;
  double NotNegative(const char* key, double fallback) const;
  std::optional<double> PositiveOrNone(const char* key, std::optional<double> absent) const;
  std::vector<double> PositiveList(const char* key, int64_t length) const;
  bool Bool(const char* key, bool fallback) const;
  std::string String(const char* key) const;
  std::string String(const char* key, const char* fallback) const;

  [[noreturn]] void Fail(const std::string& key, const std::string& problem,
                         const std::string& action = kFix) const;
  [[noreturn]] void Unsupported(const std::string& key, const Json& value) const;

  // A value as it stands in the file, cut short.
  static std::string Shown(const Json& value);

  const Json& json() const { return json_; }
  const std::string& file() const { return file_; }

 private:
  static constexpr const char* kComplete = "Download the model's config.json again.";
  static constexpr const char* kFix = "Correct the value in config.json.";

  const Json& json_;
  std::string file_;
  std::string prefix_;
  mutable std::set<std::string> asked_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_CONFIG_READER_H_
