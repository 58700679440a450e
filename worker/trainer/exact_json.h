#ifndef LIGER_WORKER_TRAINER_EXACT_JSON_H_
#define LIGER_WORKER_TRAINER_EXACT_JSON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/trainer/json_parse.h"

// JSON whose integers are kept whatever their length, as Python's json reads them:
// a data set's ids and hashes are not to change in the texts that templates make of them.
namespace liger::trainer {

// What JSON has no type for is a binary value; this mark tells integers that 64 bits do
// not hold, whose bytes are then their decimal digits.
inline constexpr uint64_t kLongIntegerSubtype = 1;

inline bool IsLongInteger(const nlohmann::ordered_json& value) {
  return value.is_binary() && value.get_binary().has_subtype() &&
         value.get_binary().subtype() == kLongIntegerSubtype;
}

// REQUIRES: IsLongInteger.
inline std::string LongIntegerText(const nlohmann::ordered_json& value) {
  const auto& bytes = value.get_binary();
  return std::string(bytes.begin(), bytes.end());
}

namespace internal {

// Builds the value of the events of one text.
class ExactJsonBuilder : public nlohmann::json_sax<nlohmann::ordered_json> {
 public:
  using Json = nlohmann::ordered_json;

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return Add(value); }
  bool number_unsigned(uint64_t value) override { return Add(value); }
  bool number_float(double value, const std::string& text) override {
    if (text.find_first_of(".eE") != std::string::npos) return Add(value);
    return Add(Json::binary({text.begin(), text.end()}, kLongIntegerSubtype));
  }
  bool string(std::string& value) override { return Add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }  // not in JSON's text
  bool start_object(size_t) override { return Open(Json::object()); }
  bool key(std::string& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

  Json Take() { return std::move(root_); }

 private:
  Json* Place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    return &((*open_.back())[key_] = std::move(value));
  }
  bool Add(Json value) { return Place(std::move(value)) != nullptr; }
  bool Open(Json value) {
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // containers, the outermost first
  std::string key_;
};

}  // namespace internal

// As ParseJson<nlohmann::ordered_json>, but for long integers.
inline nlohmann::ordered_json ParseExactJson(std::string_view text) {
  RequireShallow(text);
  internal::ExactJsonBuilder builder;
  if (nlohmann::ordered_json::sax_parse(text, &builder)) return builder.Take();
  internal::JsonErrorFinder<nlohmann::ordered_json> finder;
  nlohmann::ordered_json::sax_parse(text, &finder);
  throw finder.error();
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_EXACT_JSON_H_
