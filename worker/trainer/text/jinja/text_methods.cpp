#include "worker/trainer/text/jinja/text_methods.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

const std::string& Receiver(const Args& args) { return *args.positional[0].AsString(); }

// What s[start:end] is of the text, with the optional arguments 2 and 3 of the searching methods.
struct Window {
  std::string_view text;
  int64_t begin;  // in characters
};
std::optional<Window> WindowOf(const Args& args) {
  const std::string_view s = Receiver(args);
  if (args.positional.size() <= 2) return Window{s, 0};
  const std::vector<std::string_view> all = Characters(s);
  const auto n = static_cast<int64_t>(all.size());
  const auto position = [&](size_t index, int64_t fallback) {
    const int64_t at = IntOr(args.Find(index, ""), fallback);
    return at < 0 ? std::max<int64_t>(at + n, 0) : at;
  };
  const int64_t begin = position(2, 0), end = std::min(position(3, n), n);
  if (begin > end) return std::nullopt;
  const auto byte = [&](int64_t i) { return i < n ? all[i].data() : s.data() + s.size(); };
  return Window{{byte(begin), static_cast<size_t>(byte(end) - byte(begin))}, begin};
}

// str.startswith and endswith take one string or a tuple of them.
template <bool start>
Value Affix(const Args& args) {
  if (args.positional.size() < 2) throw RuntimeError("startswith and endswith need an argument");
  const std::optional<Window> window = WindowOf(args);
  const auto matches = [&](const Value& affix) {
    const std::string& a = RequireString({{affix}, {}}, 0, start ? "startswith" : "endswith");
    return window && (start ? window->text.starts_with(a) : window->text.ends_with(a));
  };
  const Value& affix = args.positional[1];
  if (const Sequence* tuple = affix.AsSequence(); tuple != nullptr && tuple->IsTuple()) {
    return Value(std::any_of(tuple->items.begin(), tuple->items.end(), matches));
  }
  return Value(matches(affix));
}

// find, and index, which fails where find gives -1.
template <bool from_right, bool must_be>
Value FindMethodOf(const Args& args) {
  const std::string& what = RequireString(args, 1, "find");
  if (const std::optional<Window> window = WindowOf(args)) {
    const size_t at = from_right ? window->text.rfind(what) : window->text.find(what);
    if (at != std::string_view::npos) {
      return Value(window->begin + static_cast<int64_t>(Length(window->text.substr(0, at))));
    }
  }
  if (must_be) throw RuntimeError("substring not found");
  return Value(int64_t{-1});
}

Value Count(const Args& args) {
  const std::string& what = RequireString(args, 1, "count");
  const std::optional<Window> window = WindowOf(args);
  if (!window) return Value(int64_t{0});
  if (what.empty()) return Value(static_cast<int64_t>(Length(window->text) + 1));
  int64_t n = 0;
  for (size_t at = 0; (at = window->text.find(what, at)) != std::string_view::npos; ++n) {
    at += what.size();
  }
  return Value(n);
}

template <bool from_right>
Value Partition(const Args& args) {
  const std::string &s = Receiver(args), &sep = RequireString(args, 1, "partition");
  if (sep.empty()) throw RuntimeError("empty separator");
  const size_t at = from_right ? s.rfind(sep) : s.find(sep);
  if (at == std::string::npos) {
    return Value::MakeTuple({Value(from_right ? "" : s), Value(""), Value(from_right ? s : "")});
  }
  return Value::MakeTuple({Value(s.substr(0, at)), Value(sep), Value(s.substr(at + sep.size()))});
}

template <bool start>
Value RemoveAffix(const Args& args) {
  const std::string& s = Receiver(args);
  const std::string& a = RequireString(args, 1, "removeprefix and removesuffix");
  if (start) return Value(s.starts_with(a) ? s.substr(a.size()) : s);
  return Value(s.ends_with(a) ? s.substr(0, s.size() - a.size()) : s);
}

std::string Spaces(int64_t n, const std::string& fill) {
  if (n > kMaxFill) throw Unsupported("padding a text with more than 65536 characters");
  std::string out;
  for (int64_t i = 0; i < n; ++i) out += fill;
  return out;
}

int64_t Missing(const std::string& s, int64_t width) {
  return std::max<int64_t>(width - static_cast<int64_t>(Length(s)), 0);
}

std::string Fill(const Args& args) {
  if (args.positional.size() < 3) return " ";
  const std::string& fill = RequireString(args, 2, "the fill character");
  if (Length(fill) != 1) {
    throw RuntimeError("The fill character must be exactly one character long");
  }
  return fill;
}

int64_t Width(const Args& args) {
  if (args.positional.size() < 2 || args.positional[1].IsNone()) {
    throw RuntimeError("the method needs a width");
  }
  return IntOr(&args.positional[1], 0);
}

template <bool left>
Value Justify(const Args& args) {
  const std::string pad = Spaces(Missing(Receiver(args), Width(args)), Fill(args));
  return Value(left ? Receiver(args) + pad : pad + Receiver(args));
}

Value ZFill(const Args& args) {
  const std::string& s = Receiver(args);
  const bool has_sign = s.starts_with('-') || s.starts_with('+');
  return Value(s.substr(0, has_sign) + Spaces(Missing(s, Width(args)), "0") + s.substr(has_sign));
}

Value ExpandTabs(const Args& args) {
  const int64_t size = IntOr(args.Find(1, "tabsize"), 8);
  std::string out;
  int64_t column = 0;
  for (const std::string_view c : Characters(Receiver(args))) {
    if (c == "\t") {
      const int64_t n = size > 0 ? size - column % size : 0;
      out += Spaces(n, " ");
      column += n;
    } else {
      out += c;
      column = c == "\n" || c == "\r" ? 0 : column + 1;
    }
    Meter::RequireText(out.size());
  }
  return Value(std::move(out));
}

Value SwapCase(const Args& args) {
  std::string out;
  for (const std::string_view c : Characters(Receiver(args))) {
    if (c == "\u03A3") throw Unsupported("swapcase of a capital sigma");
    const std::string upper = MapCase(c, true);
    out += upper == c ? MapCase(c, false) : upper;
  }
  return Value(std::move(out));
}

Value CaseFold(const Args& args) {
  const std::string& s = Receiver(args);
  utf8proc_uint8_t* folded = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(s.data()),
                   static_cast<utf8proc_ssize_t>(s.size()), &folded, UTF8PROC_CASEFOLD);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(folded, &std::free);
  if (size < 0) throw RuntimeError("casefold: the text is too long");
  return Value(std::string(reinterpret_cast<const char*>(folded), static_cast<size_t>(size)));
}

// A property of every character of a string that is not empty.
template <bool (*holds)(char32_t)>
Value All(const Args& args) {
  const std::string& s = Receiver(args);
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    if (!holds(unicode::NextCodePoint(p))) return Value(false);
  }
  return Value(!s.empty());
}
// What the Unicode standard gives a digit's value, beside the decimal ones: superscripts,
// subscripts and encircled digits.
bool IsDigit(char32_t c) {
  constexpr std::pair<char32_t, char32_t> kDigits[] = {
      {0xB2, 0xB3},       {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},
      {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
      {0x2474, 0x247C},   {0x2488, 0x2490},   {0x24EA, 0x24EA},   {0x24F5, 0x24FD},
      {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},   {0x278A, 0x2792},
      {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}};
  return unicode::ClassOf(c) == unicode::CharClass::kDecimal ||
         std::any_of(std::begin(kDigits), std::end(kDigits),
                     [c](const auto& range) { return c >= range.first && c <= range.second; });
}
bool IsDecimal(char32_t c) { return unicode::ClassOf(c) == unicode::CharClass::kDecimal; }
bool IsAlnum(char32_t c) { return unicode::IsLetter(c) || unicode::IsNumber(c); }
// Han characters are numbers too, some of them.
bool IsNumeric(char32_t c) {
  if (unicode::IsLetter(c) && c >= 0x3400) throw Unsupported("isnumeric of Han characters");
  return unicode::IsNumber(c);
}

// A property that is known for ASCII alone.
template <bool (*holds)(std::string_view)>
Value OfAscii(const char* name, const Args& args) {
  const std::string& s = Receiver(args);
  if (std::any_of(s.begin(), s.end(), [](char c) { return static_cast<signed char>(c) < 0; })) {
    throw Unsupported(std::string(name) + " of a text beyond ASCII");
  }
  return Value(holds(s));
}
bool IsIdentifier(std::string_view s) {
  const auto is_part = [](char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  return !s.empty() && !(s[0] >= '0' && s[0] <= '9') && std::all_of(s.begin(), s.end(), is_part);
}
bool IsPrintable(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

bool HasCase(const std::string& s) { return MapCase(s, true) != MapCase(s, false); }
Value IsLower(const Args& args) {
  return Value(HasCase(Receiver(args)) && MapCase(Receiver(args), false) == Receiver(args));
}
Value IsUpper(const Args& args) {
  return Value(HasCase(Receiver(args)) && MapCase(Receiver(args), true) == Receiver(args));
}
Value IsTitle(const Args& args) {
  return Value(HasCase(Receiver(args)) && Title(Receiver(args)) == Receiver(args));
}
Value IsAscii(const Args& args) {
  return Value(std::all_of(Receiver(args).begin(), Receiver(args).end(),
                           [](char c) { return static_cast<signed char>(c) >= 0; }));
}

constexpr Named kTextMethods[] = {
    {"startswith", Affix<true>},
    {"endswith", Affix<false>},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"find", FindMethodOf<false, false>},
    {"rfind", FindMethodOf<true, false>},
    {"index", FindMethodOf<false, true>},
    {"rindex", FindMethodOf<true, true>},
    {"count", Count},
    {"partition", Partition<false>},
    {"rpartition", Partition<true>},
    {"center", [](const Args& a) { return Value(Center(Receiver(a), Width(a), Fill(a))); }},
    {"ljust", Justify<true>},
    {"rjust", Justify<false>},
    {"zfill", ZFill},
    {"expandtabs", ExpandTabs},
    {"swapcase", SwapCase},
    {"casefold", CaseFold},
    {"isdigit", All<IsDigit>},
    {"isdecimal", All<IsDecimal>},
    {"isnumeric", All<IsNumeric>},
    {"isalpha", All<unicode::IsLetter>},
    {"isalnum", All<IsAlnum>},
    {"isspace", All<IsPythonSpace>},
    {"islower", IsLower},
    {"isupper", IsUpper},
    {"istitle", IsTitle},
    {"isascii", IsAscii},
    {"isidentifier", [](const Args& a) { return OfAscii<IsIdentifier>("isidentifier", a); }},
    {"isprintable", [](const Args& a) { return OfAscii<IsPrintable>("isprintable", a); }},
};

}  // namespace

std::string Center(const std::string& s, int64_t width, const std::string& fill) {
  const int64_t missing = Missing(s, width);
  const int64_t left = missing / 2 + (missing & width & 1);  // as Python's
  return Spaces(left, fill) + s + Spaces(missing - left, fill);
}

Builtin FindTextMethod(std::string_view name) {
  return FindIn(kTextMethods, name);
}

}  // namespace liger::trainer::jinja
