#ifndef LIGER_WORKER_TRAINER_JSON_PARSE_H_
#define LIGER_WORKER_TRAINER_JSON_PARSE_H_

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace liger::trainer {

// How deep arrays and objects may nest. JSON values are copied, printed and
// walked recursively, so a file must not decide how deep the stack grows.
inline constexpr int kMaxJsonDepth = 256;

// Why a text is not JSON that is read here, and the 0-based offset where.
class JsonTextError : public std::runtime_error {
 public:
  JsonTextError(size_t offset, const std::string& why) : std::runtime_error(why), offset_(offset) {}
  size_t offset() const { return offset_; }

 private:
  size_t offset_;
};

namespace internal {

// nlohmann's exceptions know the place of a syntax error, but not that of a
// number which no double holds; its SAX events know both.
template <typename Json>
class JsonErrorFinder : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(typename Json::number_integer_t) override { return true; }
  bool number_unsigned(typename Json::number_unsigned_t) override { return true; }
  bool number_float(typename Json::number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(typename Json::binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(std::string&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    offset_ = position == 0 ? 0 : position - 1;
    const bool syntax = dynamic_cast<const typename Json::parse_error*>(&error) != nullptr;
    why_ = (syntax ? "not valid JSON: " : "") + Explanation(error.what());
    return false;
  }

  JsonTextError error() const { return JsonTextError(offset_, why_); }

 private:
  // Without the exception's id and position, which counts from the start of
  // whatever piece was parsed: "[json.exception...] parse error at line 1,
  // column 2: ...", "[json.exception...] number overflow ...".
  static std::string Explanation(const std::string& what) {
    const size_t column = what.find("column ");
    const size_t end = column == std::string::npos ? what.find("] ") : what.find(": ", column);
    return end == std::string::npos ? what : what.substr(end + 2);
  }

  size_t offset_ = 0;
  std::string why_;
};

// The offset of the bracket that opens one level too many.
inline std::optional<size_t> TooDeepAt(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      in_string = !in_string;
    } else if (in_string) {
      if (c == '\\') ++i;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) return i;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return std::nullopt;
}

}  // namespace internal

// Throws JsonTextError where `text` nests deeper than kMaxJsonDepth.
inline void RequireShallow(std::string_view text) {
  if (const auto offset = internal::TooDeepAt(text)) {
    throw JsonTextError(*offset,
                        "nested more than " + std::to_string(kMaxJsonDepth) + " levels deep");
  }
}

// `text` as nlohmann::json or ordered_json; throws JsonTextError, and nothing
// else but what `callback` throws.
template <typename Json>
Json ParseJson(std::string_view text, const typename Json::parser_callback_t& callback = nullptr) {
  RequireShallow(text);
  Json value = Json::parse(text, callback, /*allow_exceptions=*/false);
  if (!value.is_discarded()) return value;
  internal::JsonErrorFinder<Json> finder;
  Json::sax_parse(text, &finder);
  throw finder.error();
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_JSON_PARSE_H_
