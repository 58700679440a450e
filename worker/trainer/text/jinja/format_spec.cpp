#include "worker/trainer/text/jinja/format_spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

std::string Grouped(const std::string& digits, char separator, size_t size = 3) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % size == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string Padded(const std::string& prefix, const std::string& body, const FormatSpec& spec,
                   char own_align) {
  const auto length = static_cast<int64_t>(Length(prefix) + Length(body));
  const int64_t missing = std::max<int64_t>(0, spec.width - length);
  const char align = spec.align != 0 ? spec.align : own_align;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string before, after;
  for (int64_t i = 0; i < missing; ++i) (i < left ? before : after) += spec.fill;
  return align == '=' ? prefix + before + body : before + prefix + body + after;
}

std::string Sign(bool negative, const FormatSpec& spec) {
  return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
}

// Zeros are put between the sign and the digits.
std::string PaddedNumber(const std::string& prefix, const std::string& digits, FormatSpec spec) {
  if (spec.zero && spec.align == 0) {
    spec.align = '=';
    spec.fill = "0";
  }
  return Padded(prefix, digits, spec, '>');
}

}  // namespace

std::string FormatInt(int64_t value, const FormatSpec& spec) {
  const bool negative = value < 0;
  const uint64_t magnitude =
      negative ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const char type = spec.type;
  const int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  char buffer[72];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), magnitude, base).ptr;
  std::string digits(buffer, end);
  if (type == 'X') {
    for (char& c : digits) c = c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  if (spec.grouping == ',' && base != 10) {
    throw RuntimeError(std::string("Cannot specify ',' with '") + type + "'.");
  }
  if (spec.grouping && spec.zero) throw Unsupported("zeros and groups of digits in one format");
  if (spec.grouping) digits = Grouped(digits, spec.grouping, base == 10 ? 3 : 4);
  std::string prefix = Sign(negative, spec);
  if (spec.alternate && base != 10) prefix += std::string("0") + type;
  return PaddedNumber(prefix, digits, spec);
}

std::string FormatFloat(double value, const FormatSpec& spec) {
  const bool percent = spec.type == '%';
  const char type = percent ? 'f' : spec.type;
  const auto precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  const bool negative = std::signbit(value) && !std::isnan(value);
  const double magnitude = std::abs(value) * (percent ? 100 : 1);
  const std::string pattern = std::string(spec.alternate ? "%#" : "%") + ".*" + type;
  const int length = std::snprintf(nullptr, 0, pattern.c_str(), precision, magnitude);
  std::string digits(static_cast<size_t>(length) + 1, '\0');
  std::snprintf(digits.data(), digits.size(), pattern.c_str(), precision, magnitude);
  digits.pop_back();
  if (spec.grouping && spec.zero) throw Unsupported("zeros and groups of digits in one format");
  if (spec.grouping) {
    const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = Grouped(digits.substr(0, whole), spec.grouping) + digits.substr(whole);
  }
  return PaddedNumber(Sign(negative, spec), digits + (percent ? "%" : ""), spec);
}

std::string FormatString(const std::string& text, const FormatSpec& spec) {
  const auto characters = Characters(text);
  std::string cut;
  for (size_t i = 0; i < characters.size(); ++i) {
    if (spec.precision >= 0 && static_cast<int64_t>(i) >= spec.precision) break;
    cut += characters[i];
  }
  return Padded("", cut, spec, '<');
}

std::string OneCharacter(const Value& value) {
  if (value.AsString() && Length(*value.AsString()) == 1) return *value.AsString();
  if (!value.IsInt() || value.AsInt() < 0 || value.AsInt() > 0x10FFFF) {
    throw RuntimeError("%c requires an int or a unicode character");
  }
  std::string text;
  unicode::AppendUtf8(static_cast<char32_t>(value.AsInt()), &text);
  return text;
}

std::string FormatDigits(bool negative, const std::string& digits, const FormatSpec& spec) {
  return PaddedNumber(Sign(negative, spec), digits, spec);
}

}  // namespace liger::trainer::jinja
