// Python's two ways to format strings (docs.python.org: printf-style String Formatting, Format
// String Syntax).
#include "worker/trainer/text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/format_spec.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

// A template may not ask for gigabytes of spaces.
constexpr int64_t kMaxWidth = 1 << 16;

bool IsWhole(const Value& value) { return value.IsInt() || value.IsBool(); }
bool IsOneOf(char c, const char* set) {
  return c != 0 && std::string_view(set).find(c) != std::string_view::npos;
}

// Reads a format from its front.
class Reader {
 public:
  explicit Reader(std::string_view text) : left_(text) {}

  bool done() const { return left_.empty(); }
  char Peek(size_t at = 0) const { return at < left_.size() ? left_[at] : '\0'; }
  char Take() {
    if (left_.empty()) throw RuntimeError("incomplete format");
    const char c = left_.front();
    left_.remove_prefix(1);
    return c;
  }
  bool TakeIf(char c) {
    if (done() || left_.front() != c) return false;
    left_.remove_prefix(1);
    return true;
  }
  std::string TakeUntil(std::string_view ends) {
    const size_t end = std::min(left_.find_first_of(ends), left_.size());
    const std::string taken(left_.substr(0, end));
    left_.remove_prefix(end);
    return taken;
  }
  std::string TakeCharacter() {
    const char* p = left_.data();
    unicode::NextCodePoint(p);
    const std::string taken(left_.data(), p);
    left_.remove_prefix(taken.size());
    return taken;
  }
  // -1: there is none.
  int64_t Number() {
    if (Peek() < '0' || Peek() > '9') return -1;
    int64_t value = 0;
    while (Peek() >= '0' && Peek() <= '9')
      value = std::min(value * 10 + (Take() - '0'), kMaxWidth + 1);
    if (value > kMaxWidth) throw BeyondBound("a width or precision above 65536");
    return value;
  }
  std::string_view rest() const { return left_; }

 private:
  std::string_view left_;
};

// ---- % ----

FormatSpec ReadPercentSpec(Reader& reader) {
  FormatSpec spec;
  while (IsOneOf(reader.Peek(), "-+ #0")) {
    const char flag = reader.Take();
    if (flag == '-') spec.align = '<';
    if (flag == '+' || (flag == ' ' && spec.sign == '-')) spec.sign = flag;
    spec.alternate |= flag == '#';
    spec.zero |= flag == '0';
  }
  if (reader.Peek() == '*') throw Unsupported("a width of '*'");
  spec.width = std::max<int64_t>(0, reader.Number());
  if (reader.TakeIf('.')) {
    if (reader.Peek() == '*') throw Unsupported("a precision of '*'");
    spec.precision = std::max<int64_t>(0, reader.Number());
  }
  while (IsOneOf(reader.Peek(), "hlL")) reader.Take();
  spec.type = reader.Take();
  return spec;
}

std::string PercentValue(const Value& value, FormatSpec spec) {
  const std::string type(1, spec.type);
  const char own = spec.align != 0 ? spec.align : '>';
  if (IsOneOf(spec.type, "srac")) {
    if (spec.type == 'a') throw Unsupported("formatting with %a");
    spec.align = own;
    return FormatString(spec.type == 'c'   ? OneCharacter(value)
                        : spec.type == 's' ? ToString(value)
                                           : Repr(value),
                        spec);
  }
  RequireShort(value);
  if (IsOneOf(spec.type, "diuoxX")) {
    if (spec.precision >= 0) throw Unsupported("a precision of %" + type);
    const bool whole_only = IsOneOf(spec.type, "oxX");
    if (!value.IsNumber() || (whole_only && !IsWhole(value))) {
      throw RuntimeError("%" + type + " format: " + (whole_only ? "an integer" : "a real number") +
                         " is required, not " + value.TypeName());
    }
    const double number = value.AsDouble();
    if (!IsWhole(value) && !(std::abs(number) < 9e18)) {
      throw Unsupported("formatting integers beyond 64 bits");
    }
    return FormatInt(IsWhole(value) ? value.AsInt() : static_cast<int64_t>(number), spec);
  }
  if (IsOneOf(spec.type, "eEfFgG")) {
    if (!value.IsNumber()) throw RuntimeError("must be real number, not " + value.TypeName());
    return FormatFloat(value.AsDouble(), spec);
  }
  throw RuntimeError("unsupported format character '" + type + "'");
}

// ---- str.format ----

FormatSpec ReadSpec(std::string_view text) {
  FormatSpec spec;
  Reader reader(text);
  if (!reader.done()) {
    Reader ahead(text);
    const std::string first = ahead.TakeCharacter();
    if (IsOneOf(ahead.Peek(), "<>^=")) {
      spec.fill = first;
      spec.align = ahead.Take();
      reader = ahead;
    } else if (IsOneOf(reader.Peek(), "<>^=")) {
      spec.align = reader.Take();
    }
  }
  if (IsOneOf(reader.Peek(), "+- ")) spec.sign = reader.Take();
  spec.alternate = reader.TakeIf('#');
  spec.zero = reader.TakeIf('0');
  spec.width = std::max<int64_t>(0, reader.Number());
  for (const char separator : {',', '_'}) {
    if (!spec.grouping && reader.TakeIf(separator)) spec.grouping = separator;
  }
  if (reader.TakeIf('.')) {
    spec.precision = reader.Number();
    if (spec.precision < 0) throw RuntimeError("Format specifier missing precision");
  }
  if (!reader.done()) spec.type = reader.Take();
  if (!reader.done()) throw RuntimeError("Invalid format specifier '" + std::string(text) + "'");
  return spec;
}

std::string FormatValue(const Value& value, const std::string& text) {
  if (text.empty()) return ToString(value);
  const FormatSpec spec = ReadSpec(text);
  const std::string unknown = "Unknown format code '" + std::string(1, spec.type) +
                              "' for object of type '" + value.TypeName() + "'";
  if (value.AsString() != nullptr) {
    if (spec.type != 0 && spec.type != 's') throw RuntimeError(unknown);
    if (spec.align == '=' || spec.sign != '-' || spec.alternate || spec.grouping || spec.zero) {
      throw Unsupported("the format specifier '" + text + "' for a string");
    }
    return FormatString(*value.AsString(), spec);
  }
  RequireShort(value);
  if (!value.IsNumber()) {
    throw RuntimeError("unsupported format string passed to " + value.TypeName() + ".__format__");
  }
  if (IsOneOf(spec.type, "eEfFgG%")) return FormatFloat(value.AsDouble(), spec);
  if (IsWhole(value) && (value.IsInt() || spec.type != 0)) {
    if (spec.type == 'c') return FormatString(OneCharacter(value), spec);
    if (spec.precision >= 0)
      throw RuntimeError("Precision not allowed in integer format specifier");
    if (spec.type != 0 && !IsOneOf(spec.type, "dxXob")) throw RuntimeError(unknown);
    return FormatInt(value.AsInt(), spec);
  }
  if (value.IsBool() || spec.type != 0 || spec.precision >= 0 || spec.grouping) {
    throw Unsupported("the format specifier '" + text + "' for " + value.TypeName());
  }
  const std::string digits = Repr(value);
  const bool negative = digits.starts_with('-');
  return FormatDigits(negative, digits.substr(negative ? 1 : 0), spec);
}

class MethodFormatter {
 public:
  explicit MethodFormatter(const Args& args) : args_(args) {}

  std::string Run(std::string_view format, int depth = 0) {
    if (depth > 1) throw RuntimeError("Max string recursion exceeded");
    std::string out;
    Reader reader(format);
    while (!reader.done()) {
      Meter::RequireText(out.size());
      out += reader.TakeUntil("{}");
      if (reader.done()) break;
      const char brace = reader.Take();
      if (reader.TakeIf(brace)) {
        out += brace;
      } else if (brace == '}') {
        throw RuntimeError("Single '}' encountered in format string");
      } else {
        out += Field(reader, depth);
      }
    }
    return out;
  }

 private:
  // {name.attribute[key]!r:spec}, behind its opening brace.
  std::string Field(Reader& reader, int depth) {
    Value value = Named(reader.TakeUntil(".[!:{}"));
    while (IsOneOf(reader.Peek(), ".[")) {
      if (reader.Take() == '.') {
        value = GetAttribute(value, reader.TakeUntil(".[!:{}"));
        continue;
      }
      const std::string key = reader.TakeUntil("]");
      if (reader.Take() != ']') throw RuntimeError("Missing ']' in format string");
      const std::optional<int64_t> index = AsIndex(key);
      value = GetItem(value, index ? Value(*index) : Value(key));
    }
    if (reader.TakeIf('!')) {
      const char conversion = reader.Take();
      if (conversion != 'r' && conversion != 's')
        throw Unsupported("the conversion !" + std::string(1, conversion));
      value = Value(conversion == 'r' ? Repr(value) : ToString(value));
    }
    const std::string spec = reader.TakeIf(':') ? Run(SpecText(reader), depth + 1) : "";
    if (reader.done() || reader.Take() != '}')
      throw RuntimeError("expected '}' before end of string");
    return FormatValue(value, spec);
  }

  // Up to the field's closing brace, with inner fields.
  static std::string SpecText(Reader& reader) {
    std::string spec;
    for (int open = 0; !reader.done();) {
      if (reader.Peek() == '}' && open == 0) break;
      open += reader.Peek() == '{' ? 1 : reader.Peek() == '}' ? -1 : 0;
      spec += reader.Take();
    }
    return spec;
  }

  static std::optional<int64_t> AsIndex(const std::string& text) {
    if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != text.npos)
      return std::nullopt;
    return std::stoll(text);
  }

  Value Named(const std::string& name) {
    const std::optional<int64_t> index = name.empty() ? std::optional(next_++) : AsIndex(name);
    is_numbered_ |= index && !name.empty();
    if (is_numbered_ && next_ > 0) {
      throw RuntimeError("cannot switch between automatic and manual field numbering");
    }
    if (index) {
      // The first is the format itself.
      const auto at = static_cast<size_t>(*index) + 1;
      if (at >= args_.positional.size())
        throw RuntimeError("Replacement index " + std::to_string(*index) +
                           " out of range for positional args tuple");
      return args_.positional[at];
    }
    for (const auto& [keyword, value] : args_.keyword) {
      if (keyword == name) return value;
    }
    throw RuntimeError("format has no argument '" + name + "'");
  }

  const Args& args_;
  int64_t next_ = 0;
  bool is_numbered_ = false;
};

}  // namespace

std::string PercentFormat(const std::string& format, const Value& values) {
  const Sequence* tuple = values.AsSequence();
  if (tuple != nullptr && !tuple->IsTuple()) tuple = nullptr;
  size_t used = 0;
  const auto next = [&]() -> const Value& {
    if (used >= (tuple ? tuple->items.size() : 1))
      throw RuntimeError("not enough arguments for format string");
    const Value& value = tuple ? tuple->items[used] : values;
    ++used;
    return value;
  };
  std::string out;
  bool by_name = false;
  Reader reader(format);
  while (!reader.done()) {
    Meter::RequireText(out.size());
    out += reader.TakeUntil("%");
    if (reader.done()) break;
    reader.Take();
    const Value* named = nullptr;
    if (reader.TakeIf('(')) {
      const std::string name = reader.TakeUntil(")");
      reader.Take();
      if (values.AsDict() == nullptr) throw RuntimeError("format requires a mapping");
      named = values.AsDict()->Find(Value(name));
      if (named == nullptr) throw RuntimeError("'" + name + "'");
      by_name = true;
    }
    const FormatSpec spec = ReadPercentSpec(reader);
    out += spec.type == '%' ? "%" : PercentValue(named ? *named : next(), spec);
  }
  const bool left_over = tuple ? used < tuple->items.size()
                               : used == 0 && !by_name && !values.AsDict() &&
                                     !values.AsSequence() && !values.IsUndefined();
  if (left_over) throw RuntimeError("not all arguments converted during string formatting");
  return out;
}

std::string FormatMethod(const Args& args) {
  return MethodFormatter(args).Run(*args.positional[0].AsString());
}

}  // namespace liger::trainer::jinja
