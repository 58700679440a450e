// Jinja's filters: "x | trim". Text and numbers; sequences are in
// sequence_filters.cpp.

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/format.h"
#include "worker/trainer/text/jinja/sequence_filters.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

struct Entry {
  std::string_view name;
  Builtin filter;
};

std::string SelfText(const Args& args) { return ToString(args.positional[0]); }

Value Upper(const Args& args) { return Value(MapCase(SelfText(args), true)); }
// As %: keywords are the names, else the arguments in turn.
Value Format(const Args& args) {
  List values(args.positional.begin() + 1, args.positional.end());
  Dict names;
  for (const auto& [name, value] : args.keyword) names.Set(Value(name), value);
  if (!values.empty() && !names.items.empty()) {
    throw RuntimeError("can't handle positional and keyword arguments at the same time");
  }
  return Value(
      PercentFormat(SelfText(args), names.items.empty() ? Value::MakeTuple(values) : Value(names)));
}

Value Lower(const Args& args) { return Value(MapCase(SelfText(args), false)); }

Value Capitalize(const Args& args) {
  const std::string s = SelfText(args);
  if (s.empty()) return Value(s);
  const size_t n = unicode::Utf8Length(s[0]);
  return Value(MapCase(s.substr(0, n), true) + MapCase(s.substr(n), false));
}

// Jinja's own: a word starts after spaces, hyphens and opening brackets.
Value TitleFilter(const Args& args) {
  const std::string s = SelfText(args);
  std::string out;
  bool starts = true;
  for (const std::string_view c : Characters(s)) {
    const char* p = c.data();
    const char32_t code = unicode::NextCodePoint(p);
    out += MapCase(c, starts);
    starts = IsPythonSpace(code) ||
             (code < 0x80 && std::string_view("-([{<").find(c[0]) != std::string_view::npos);
  }
  return Value(std::move(out));
}

Value Trim(const Args& args) {
  return Value(Strip(SelfText(args), args.Find(1, "chars"), true, true));
}

Value Replace(const Args& args) {
  const std::string s = SelfText(args);
  const std::string from = RequireString(args, 1, "replace"),
                    to = RequireString(args, 2, "replace");
  int64_t left = IntOr(args.Find(3, "count"), -1);
  std::string out;
  size_t done = 0;
  if (from.empty()) {  // Python puts `to` between all characters
    for (const std::string_view c : Characters(s)) {
      if (left-- != 0)
        out += to;
      else
        left = 0;
      out += c;
      Meter::RequireText(out.size());
    }
    if (left != 0) out += to;
    return Value(std::move(out));
  }
  for (size_t at; left != 0 && (at = s.find(from, done)) != std::string::npos; --left) {
    out.append(s, done, at - done).append(to);
    done = at + from.size();
    Meter::RequireText(out.size());
  }
  return Value(out.append(s, done));
}

Value ToJsonFilter(const Args& args) {
  JsonStyle style;
  const Value* indent = args.Find(2, "indent");
  const Value* ascii = args.Find(1, "ensure_ascii");
  const Value* separators = args.Find(3, "separators");
  const Value* sort = args.Find(4, "sort_keys");
  style.ensure_ascii = ascii != nullptr && ascii->Truthy();
  style.sort_keys = sort != nullptr && sort->Truthy();
  style.indent = static_cast<int>(std::clamp<int64_t>(IntOr(indent, -1), -1, 64));
  if (style.indent >= 0) style.item_separator = ",";
  if (separators != nullptr && !separators->IsNone()) {
    const List pair = Iterate(*separators);
    if (pair.size() != 2) throw RuntimeError("tojson needs two separators");
    style.item_separator = ToString(pair[0]);
    style.key_separator = ToString(pair[1]);
  }
  return Value(ToJson(args.positional[0], style));
}

Value Default(const Args& args) {
  const Value* fallback = args.Find(1, "default_value");
  const Value* boolean = args.Find(2, "boolean");
  const Value& self = args.positional[0];
  const bool replace = self.IsUndefined() || (boolean && boolean->Truthy() && !self.Truthy());
  return replace ? (fallback ? *fallback : Value("")) : self;
}

Value Indent(const Args& args) {
  const std::string s = RequireString(args, 0, "indent");
  const Value* width = args.Find(1, "width");
  const Value* first = args.Find(2, "first");
  const Value* blank = args.Find(3, "blank");
  const std::string pad = width && width->AsString()
                              ? *width->AsString()
                              : std::string(std::clamp<int64_t>(IntOr(width, 4), 0, 1000), ' ');
  std::string out;
  size_t done = 0;
  for (bool at_first = true; done <= s.size(); at_first = false) {
    const size_t end = std::min(s.find('\n', done), s.size());
    const bool empty = end == done;
    const bool indents = at_first ? first && first->Truthy() : !empty || (blank && blank->Truthy());
    if (!at_first) out += '\n';
    if (indents) out += pad;
    Meter::RequireText(out.size());
    out.append(s, done, end - done);
    done = end + 1;
  }
  return Value(std::move(out));
}

Value Escape(const Args& args) {
  std::string out;
  for (const char c : SelfText(args)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return Value(std::move(out));
}

Value ToInt(const Args& args) {
  const Value& self = args.positional[0];
  const int64_t fallback = IntOr(args.Find(1, "default"), 0);
  if (self.IsFloat()) {
    return std::fabs(self.AsDouble()) < 9e18 ? Value(static_cast<int64_t>(self.AsDouble()))
                                             : Value(fallback);
  }
  if (self.IsNumber()) return Value(self.AsInt());
  const std::string s = self.AsString() ? Strip(*self.AsString(), nullptr, true, true) : "";
  char* end = nullptr;
  const double d = std::strtod(s.c_str(), &end);
  if (s.empty() || *end != '\0' || !(std::fabs(d) < 9e18)) return Value(fallback);
  const long long exact = std::strtoll(s.c_str(), &end, 10);
  return Value(*end == '\0' ? int64_t{exact} : static_cast<int64_t>(d));
}

Value ToFloat(const Args& args) {
  const Value& self = args.positional[0];
  if (self.IsNumber()) return Value(self.AsDouble());
  const std::string s = self.AsString() ? Strip(*self.AsString(), nullptr, true, true) : "";
  char* end = nullptr;
  const double d = std::strtod(s.c_str(), &end);
  if (!s.empty() && *end == '\0') return Value(d);
  const Value* fallback = args.Find(1, "default");
  return fallback ? *fallback : Value(0.0);
}

Value Abs(const Args& args) {
  const Value& self = args.positional[0];
  if (!self.IsNumber()) throw RuntimeError("abs needs a number, not " + self.TypeName());
  return self.IsFloat() ? Value(std::fabs(self.AsDouble())) : Value(std::abs(self.AsInt()));
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

Value Round(const Args& args) {
  const Value& self = args.positional[0];
  if (!self.IsNumber()) throw RuntimeError("round needs a number, not " + self.TypeName());
  if (!self.IsFloat() && (args.Find(2, "method") == nullptr)) {
    return RoundInt(self.AsInt(), IntOr(args.Find(1, "precision"), 0));
  }
  const double scale = std::pow(10.0, static_cast<double>(IntOr(args.Find(1, "precision"), 0)));
  const Value* method = args.Find(2, "method");
  const std::string how = method ? ToString(*method) : "common";
  const double x = self.AsDouble() * scale;
  // Python rounds halves to even, as nearbyint does by default.
  return Value((how == "ceil"    ? std::ceil(x)
                : how == "floor" ? std::floor(x)
                                 : std::nearbyint(x)) /
               scale);
}

Value WordCount(const Args& args) {
  int64_t n = 0;
  bool inside = false;
  const std::string s = SelfText(args);
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    const bool word = unicode::IsWord(unicode::NextCodePoint(p));
    n += word && !inside;
    inside = word;
  }
  return Value(n);
}

constexpr Entry kTable[] = {
    {"trim", Trim},
    {"upper", Upper},
    {"lower", Lower},
    {"capitalize", Capitalize},
    {"title", TitleFilter},
    {"replace", Replace},
    {"tojson", ToJsonFilter},
    {"default", Default},
    {"d", Default},
    {"indent", Indent},
    {"escape", Escape},
    {"e", Escape},
    {"safe", [](const Args& a) { return a.positional[0]; }},
    {"format", Format},
    {"string", [](const Args& a) { return Value(SelfText(a)); }},
    {"int", ToInt},
    {"float", ToFloat},
    {"abs", Abs},
    {"round", Round},
    {"wordcount", WordCount},
};

}  // namespace

Builtin FindFilter(std::string_view name) {
  for (const Entry& entry : kTable) {
    if (entry.name == name) return entry.filter;
  }
  return FindSequenceFilter(name);
}

}  // namespace liger::trainer::jinja
