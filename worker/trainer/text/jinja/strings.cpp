#include "worker/trainer/text/jinja/strings.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

// repr(float): the shortest digits that read back the same.
std::string FloatRepr(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  char buffer[64];
  const int exponent = d == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::fabs(d))));
  const auto format =
      exponent < -4 || exponent >= 16 ? std::chars_format::scientific : std::chars_format::fixed;
  std::string s(buffer, std::to_chars(buffer, buffer + sizeof(buffer), d, format).ptr);
  if (format == std::chars_format::fixed && s.find('.') == std::string::npos) s += ".0";
  return s;
}

std::string RangeRepr(const Sequence& s) {
  const auto& [start, stop, step] = s.range;
  return "range(" + std::to_string(start) + ", " + std::to_string(stop) +
         (step == 1 ? ")" : ", " + std::to_string(step) + ")");
}

bool IsPrintable(char32_t c) {
  if (c < 0x80) return c >= 0x20 && c != 0x7F;
  return unicode::ClassOf(c) != unicode::CharClass::kOther;
}

std::string StringRepr(const std::string& s) {
  const char quote =
      s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    const char32_t c = unicode::NextCodePoint(p);
    char buffer[16];
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\\' || c == static_cast<char32_t>(quote)) {
      out += '\\';
      out += static_cast<char>(c);
    } else if (IsPrintable(c)) {
      unicode::AppendUtf8(c, &out);
    } else {
      const char* format = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
      std::snprintf(buffer, sizeof(buffer), format, static_cast<unsigned>(c));
      out += buffer;
    }
  }
  return out + quote;
}

void AppendEscaped(char32_t unit, std::string* out) {
  char buffer[16];
  std::snprintf(buffer, sizeof(buffer), "\\u%04x", static_cast<unsigned>(unit));
  *out += buffer;
}

void AppendJsonString(const std::string& s, bool ensure_ascii, std::string* out) {
  *out += '"';
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    const char32_t c = unicode::NextCodePoint(p);
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      default:
        if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
          AppendEscaped(c, out);
        } else if (ensure_ascii && c >= 0x10000) {
          AppendEscaped(0xD800 + ((c - 0x10000) >> 10), out);
          AppendEscaped(0xDC00 + ((c - 0x10000) & 0x3FF), out);
        } else {
          unicode::AppendUtf8(c, out);
        }
    }
  }
  *out += '"';
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void Write(const Value& value, int depth) {
    Meter::Work(1);
    Meter::RequireText(out_.size());
    if (const std::string* s = value.AsString()) {
      AppendJsonString(*s, style_.ensure_ascii, &out_);
    } else if (const Sequence* s = value.AsSequence(); s && s->IsListOrTuple()) {
      WriteItems('[', ']', s->items.size(), depth,
                 [&](size_t i) { Write(s->items[i], depth + 1); });
    } else if (const Dict* d = value.AsDict()) {
      WriteDict(*d, depth);
    } else if (value.IsNone()) {
      out_ += "null";
    } else if (value.IsBool()) {
      out_ += value.Truthy() ? "true" : "false";
    } else if (value.IsFloat() && !std::isfinite(value.AsDouble())) {
      out_ += std::isnan(value.AsDouble()) ? "NaN"
              : value.AsDouble() < 0       ? "-Infinity"
                                           : "Infinity";
    } else if (value.IsNumber() || value.AsLongInteger()) {
      out_ += ToString(value);
    } else {
      RequireDefined(value);
      throw RuntimeError("Object of type " + value.TypeName() + " is not JSON serializable");
    }
  }
  std::string Take() { return std::move(out_); }

 private:
  template <typename Item>
  void WriteItems(char open, char close, size_t n, int depth, Item item) {
    out_ += open;
    for (size_t i = 0; i < n; ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine(depth + 1);
      item(i);
    }
    if (n > 0) NewLine(depth);
    out_ += close;
  }

  void WriteDict(const Dict& dict, int depth) {
    auto items = dict.items;
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto& a, const auto& b) { return Less(a.first, b.first); });
    }
    WriteItems('{', '}', items.size(), depth, [&](size_t i) {
      AppendJsonString(KeyText(items[i].first), style_.ensure_ascii, &out_);
      out_ += style_.key_separator;
      Write(items[i].second, depth + 1);
    });
  }

  // json.dumps writes keys that are not strings as JSON would write the value.
  std::string KeyText(const Value& key) {
    if (const std::string* s = key.AsString()) return *s;
    if (key.IsNone()) return "null";
    if (key.IsBool()) return key.Truthy() ? "true" : "false";
    if (key.IsNumber() || key.AsLongInteger()) return ToString(key);
    throw RuntimeError("keys must be str, int, float, bool or None, not " + key.TypeName());
  }

  void NewLine(int depth) {
    if (!style_.indent) return;
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += *style_.indent;
  }

  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

std::vector<std::string_view> Characters(std::string_view s) {
  std::vector<std::string_view> out;
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    const int n = unicode::Utf8Length(*p);
    out.emplace_back(p, n);
    p += n;
  }
  return out;
}

size_t Length(std::string_view s) {
  return static_cast<size_t>(std::count_if(
      s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool IsPythonSpace(char32_t c) { return unicode::IsSpace(c) || (c >= 0x1C && c <= 0x1F); }

std::vector<std::string_view> Lines(std::string_view s, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  const char* const end = s.data() + s.size();
  for (const char* p = s.data(); p < end;) {
    const auto at = static_cast<size_t>(p - s.data());
    const char32_t c = unicode::NextCodePoint(p);
    const bool breaks = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                        c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && p < end && *p == '\n') ++p;
    const auto next = static_cast<size_t>(p - s.data());
    lines.push_back(s.substr(begin, (keep_ends ? next : at) - begin));
    begin = next;
  }
  if (begin < s.size()) lines.push_back(s.substr(begin));
  return lines;
}

List SplitOnSpaces(const std::string& s, int64_t max, bool from_right) {
  std::vector<std::string_view> all = Characters(s);
  if (from_right) std::reverse(all.begin(), all.end());
  List parts;
  size_t i = 0;
  const auto is_space = [&](size_t k) {
    const char* p = all[k].data();
    return IsPythonSpace(unicode::NextCodePoint(p));
  };
  while (true) {
    while (i < all.size() && is_space(i)) ++i;
    if (i == all.size()) break;
    const bool last = max >= 0 && static_cast<int64_t>(parts.size()) == max;
    std::vector<std::string_view> part;
    while (i < all.size() && (last || !is_space(i))) part.push_back(all[i++]);
    if (from_right) std::reverse(part.begin(), part.end());
    std::string text;
    for (const std::string_view c : part) text += c;
    parts.emplace_back(std::move(text));
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::string Strip(std::string_view s, const Value* chars, bool left, bool right) {
  if (chars != nullptr && chars->IsNone()) chars = nullptr;
  if (chars != nullptr && chars->AsString() == nullptr) {
    throw RuntimeError("strip arg must be None or str");
  }
  const auto strips = [&](std::string_view c) {
    const char* p = c.data();
    return chars == nullptr ? IsPythonSpace(unicode::NextCodePoint(p))
                            : chars->AsString()->find(c) != std::string::npos;
  };
  const std::vector<std::string_view> all = Characters(s);
  size_t begin = 0, end = all.size();
  while (left && begin < end && strips(all[begin])) ++begin;
  while (right && begin < end && strips(all[end - 1])) --end;
  if (begin == end) return "";
  return std::string(all[begin].data(), all[end - 1].data() + all[end - 1].size());
}

std::string ToString(const Value& value) {
  if (const std::string* s = value.AsString()) return *s;
  return value.IsUndefined() ? "" : Repr(value);
}

std::string Repr(const Value& value) {
  Meter::Work(1);
  if (const std::string* s = value.AsString()) {
    return value.IsMarkup() ? "Markup(" + StringRepr(*s) + ")" : StringRepr(*s);
  }
  if (value.IsUndefined()) return "Undefined";
  if (value.IsNone()) return "None";
  if (value.IsBool()) return value.Truthy() ? "True" : "False";
  if (value.IsInt()) return std::to_string(value.AsInt());
  if (const LongInteger* i = value.AsLongInteger()) return i->digits;
  if (value.IsFloat()) return FloatRepr(value.AsDouble());
  std::string out;
  if (const Sequence* s = value.AsSequence()) {
    if (s->kind == Sequence::Kind::kRange) return RangeRepr(*s);
    for (const Value& item : s->items) {
      out += (out.empty() ? "" : ", ") + Repr(item);
      Meter::RequireText(out.size());
    }
    if (s->IsTuple()) return "(" + out + (s->items.size() == 1 ? ",)" : ")");
    if (s->kind == Sequence::Kind::kView) return s->view_name + "([" + out + "])";
    return "[" + out + "]";
  }
  if (const Dict* d = value.AsDict()) {
    for (const auto& [key, item] : d->items) {
      out += (out.empty() ? "" : ", ") + Repr(key) + ": " + Repr(item);
      Meter::RequireText(out.size());
    }
    return "{" + out + "}";
  }
  if (const Generator* generator = value.AsGenerator()) {
    throw Unsupported("printing what " + generator->filter() + " gives without | list");
  }
  throw Unsupported("printing a " + value.TypeName());
}

std::string ToJson(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.Write(value, 0);
  return writer.Take();
}

}  // namespace liger::trainer::jinja
