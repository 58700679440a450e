// Jinja's filters int, float, abs and round.

#include "worker/trainer/text/jinja/number_filters.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <regex>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

constexpr size_t kMaxDigits = 4300;  // of int(str), Python's own bound

// The text of a number without what Python skips; others stay what they are. Digits of other
// scripts count in Python.
std::string NumberText(const std::string& text) {
  std::string s = Strip(text, nullptr, true, true);
  if (s.size() > kMaxDigits) throw Unsupported("a number of more than 4300 digits");
  for (const std::string_view c : Characters(s)) {
    const char* p = c.data();
    if (c.size() == 1) continue;
    if (unicode::ClassOf(unicode::NextCodePoint(p)) == unicode::CharClass::kDecimal) {
      throw Unsupported("a number in digits of other scripts");
    }
  }
  return s;
}

// int(text, base); nullopt: ValueError.
std::optional<Value> ParseInt(const std::string& text, int64_t base) {
  static const std::regex decimal("[-+]?[0-9]+(_[0-9]+)*");
  std::string s = NumberText(text);
  if (base == 10) {
    if (!std::regex_match(s, decimal)) return std::nullopt;
    std::erase(s, '_');
    return Value::FromDigits(s.starts_with('+') ? s.substr(1) : s);
  }
  if (base != 2 && base != 8 && base != 16) {
    throw Unsupported("int to base " + std::to_string(base));
  }
  static const std::regex based("([-+]?)(0[bB]_?|0[oO]_?|0[xX]_?)?([0-9a-fA-F]+(_[0-9a-fA-F]+)*)");
  std::smatch parts;
  if (!std::regex_match(s, parts, based)) return std::nullopt;
  const char letter = parts[2].matched ? static_cast<char>(s[parts.position(2) + 1] | 0x20) : 0;
  if (letter != 0 && letter != (base == 2 ? 'b' : base == 8 ? 'o' : 'x')) return std::nullopt;
  std::string digits = parts[1].str() + parts[3].str();
  std::erase(digits, '_');
  char* end = nullptr;
  errno = 0;
  const long long value = std::strtoll(digits.c_str(), &end, static_cast<int>(base));
  if (*end != '\0') return std::nullopt;
  if (errno == ERANGE) {
    throw Unsupported("an integer beyond 64 bits to base " + std::to_string(base));
  }
  return Value(int64_t{value});
}

// float(text); nullopt: ValueError.
std::optional<double> ParseFloat(const std::string& text) {
  static const std::regex number(
      "[-+]?(([0-9]+(_[0-9]+)*)?\\.?([0-9]+(_[0-9]+)*)|[0-9]+(_[0-9]+)*\\.)"
      "([eE][-+]?[0-9]+(_[0-9]+)*)?"
      "|[-+]?([iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN])");
  std::string s = NumberText(text);
  if (!std::regex_match(s, number)) return std::nullopt;
  std::erase(s, '_');
  return std::strtod(s.c_str(), nullptr);
}

// int(float), exactly; nullopt: it is no number or infinite.
std::optional<Value> Truncated(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  char text[400];
  std::snprintf(text, sizeof(text), "%.0f", std::trunc(value));
  return Value::FromDigits(text);
}

Value ToInt(const Args& args) {
  const Value& self = args.positional[0];
  RequireDefined(self);
  const Value* given = args.Find(1, "default");
  const Value fallback = given ? *given : Value(int64_t{0});
  if (self.AsLongInteger()) return self;
  if (self.IsFloat()) {
    if (std::isinf(self.AsDouble())) {
      throw RuntimeError("cannot convert float infinity to integer");
    }
    return Truncated(self.AsDouble()).value_or(fallback);
  }
  if (self.IsNumber()) return Value(self.AsInt());
  if (self.AsString() == nullptr) return fallback;
  const int64_t base = IntOr(args.Find(2, "base"), 10);
  if (std::optional<Value> whole = ParseInt(*self.AsString(), base)) return *whole;
  const std::optional<double> real = ParseFloat(*self.AsString());
  return real ? Truncated(*real).value_or(fallback) : fallback;
}

Value ToFloat(const Args& args) {
  const Value& self = args.positional[0];
  RequireDefined(self);
  if (self.IsNumber()) return Value(self.AsDouble());
  if (const LongInteger* i = self.AsLongInteger()) {
    const double d = std::strtod(i->digits.c_str(), nullptr);
    if (std::isinf(d)) throw RuntimeError("int too large to convert to float");
    return Value(d);
  }
  if (self.AsString()) {
    if (const std::optional<double> d = ParseFloat(*self.AsString())) return Value(*d);
  }
  const Value* fallback = args.Find(1, "default");
  return fallback ? *fallback : Value(0.0);
}

Value Abs(const Args& args) {
  const Value& self = args.positional[0];
  if (self.IsFloat()) return Value(std::fabs(self.AsDouble()));
  if (!self.IsNumber() && !self.AsLongInteger()) {
    throw RuntimeError("abs needs a number, not " + self.TypeName());
  }
  if (self.IsBool()) return Value(self.AsInt());
  const std::string digits = Repr(self);
  return Value::FromDigits(digits.substr(digits.starts_with('-')));
}

// Python's round of an integer: an integer, halves to even.
Value RoundInt(int64_t value, int64_t precision) {
  if (precision >= 0) return Value(value);
  if (precision < -18) return Value(int64_t{0});
  int64_t unit = 1;
  for (; precision < 0; ++precision) unit *= 10;
  const int64_t rest = ((value % unit) + unit) % unit, below = value - rest;
  const bool up = rest * 2 > unit || (rest * 2 == unit && below / unit % 2 != 0);
  return Value(up ? below + unit : below);
}

// Python's round of a float: of its exact value, halves to even.
double RoundDouble(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 323) return value;
  if (precision < -308) return 0.0 * value;
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / unit) * unit;
  }
  char text[700];
  std::snprintf(text, sizeof(text), "%.*f", static_cast<int>(precision), value);
  return std::strtod(text, nullptr);
}

Value Round(const Args& args) {
  const Value& self = args.positional[0];
  const int64_t precision = IntOr(args.Find(1, "precision"), 0);
  const Value* method = args.Find(2, "method");
  const std::string how = method ? ToString(*method) : "common";
  if (how != "common" && how != "ceil" && how != "floor") {
    throw RuntimeError("method must be common, ceil or floor");
  }
  if (how == "common" && precision >= 0 && self.AsLongInteger()) return self;
  RequireShort(self);
  if (!self.IsNumber()) throw RuntimeError("round needs a number, not " + self.TypeName());
  if (how == "common" && !self.IsFloat()) return RoundInt(self.AsInt(), precision);
  if (how == "common") return Value(RoundDouble(self.AsDouble(), precision));
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double x = self.AsDouble() * scale;
  if (!std::isfinite(x)) throw RuntimeError("cannot convert float infinity or NaN to integer");
  return Value((how == "ceil" ? std::ceil(x) : std::floor(x)) / scale + 0.0);  // no -0.0: an int's
}

}  // namespace

Builtin FindNumberFilter(std::string_view name) {
  if (name == "int") return ToInt;
  if (name == "float") return ToFloat;
  if (name == "abs") return Abs;
  return name == "round" ? Round : nullptr;
}

}  // namespace liger::trainer::jinja
