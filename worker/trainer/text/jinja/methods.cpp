// Methods of Python's str, dict and list that templates call.

#include <algorithm>
#include <cctype>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/format.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

// In a method the object is the first argument.
using Method = Value (*)(const Args& args);
struct Entry {
  std::string_view name;
  Method method;
};

const std::string& Self(const Args& args) { return *args.positional[0].AsString(); }
const Dict& SelfDict(const Args& args) { return *args.positional[0].AsDict(); }
const List& SelfList(const Args& args) { return args.positional[0].AsSequence()->items; }

Value CallFilter(const char* name, const Args& args) { return FindFilter(name)(args); }

template <bool left, bool right>
Value StripMethod(const Args& args) {
  return Strip(Self(args), args.Find(1, ""), left, right);
}

// Parts of str.split() and rsplit() without a separator: runs of spaces divide.
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

template <bool from_right>
Value SplitMethod(const Args& args) {
  const std::string& s = Self(args);
  const Value* separator = args.Find(1, "sep");
  const int64_t max = IntOr(args.Find(2, "maxsplit"), -1);
  if (separator == nullptr || separator->IsNone()) {
    return Value(SplitOnSpaces(s, max, from_right));
  }
  const std::string& sep = RequireString({{*separator}, {}}, 0, "split");
  if (sep.empty()) throw RuntimeError("empty separator");
  List parts;
  size_t begin = 0, end = s.size();
  while (max < 0 || static_cast<int64_t>(parts.size()) < max) {
    if (from_right) {
      const size_t at = end < sep.size() ? std::string::npos : s.rfind(sep, end - sep.size());
      if (at == std::string::npos) break;
      parts.emplace_back(s.substr(at + sep.size(), end - at - sep.size()));
      end = at;
    } else {
      const size_t at = s.find(sep, begin);
      if (at == std::string::npos) break;
      parts.emplace_back(s.substr(begin, at - begin));
      begin = at + sep.size();
    }
  }
  parts.emplace_back(s.substr(begin, end - begin));
  if (from_right) std::reverse(parts.begin(), parts.end());
  return Value(std::move(parts));
}

Value SplitLines(const Args& args) {
  const std::string& s = Self(args);
  const Value* keep = args.Find(1, "keepends");
  const bool keep_ends = keep != nullptr && keep->Truthy();
  List lines;
  size_t begin = 0;
  const char* const end = s.data() + s.size();
  for (const char* p = s.data(); p < end;) {
    const size_t at = static_cast<size_t>(p - s.data());
    const char32_t c = unicode::NextCodePoint(p);
    const bool breaks = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                        c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && p < end && *p == '\n') ++p;
    const auto next = static_cast<size_t>(p - s.data());
    lines.emplace_back(s.substr(begin, (keep_ends ? next : at) - begin));
    begin = next;
  }
  if (begin < s.size()) lines.emplace_back(s.substr(begin));
  return Value(std::move(lines));
}

// str.startswith and endswith take one string or a tuple of them.
template <bool start>
Value Affix(const Args& args) {
  if (args.positional.size() > 2) throw Unsupported("startswith or endswith with a range");
  const auto matches = [&](const Value& affix) {
    const std::string& a = RequireString({{affix}, {}}, 0, start ? "startswith" : "endswith");
    return start ? Self(args).starts_with(a) : Self(args).ends_with(a);
  };
  const Value* affix = args.Find(1, "prefix");
  if (affix == nullptr) throw RuntimeError("startswith and endswith need an argument");
  if (const Sequence* tuple = affix->AsSequence(); tuple != nullptr && tuple->is_tuple) {
    return Value(std::any_of(tuple->items.begin(), tuple->items.end(), matches));
  }
  return Value(matches(*affix));
}

template <bool start>
Value RemoveAffix(const Args& args) {
  const std::string& s = Self(args);
  const std::string& a = RequireString(args, 1, "removeprefix and removesuffix");
  if (start) return Value(s.starts_with(a) ? s.substr(a.size()) : s);
  return Value(s.ends_with(a) ? s.substr(0, s.size() - a.size()) : s);
}

template <bool reverse>
Value FindMethodOfString(const Args& args) {
  if (args.positional.size() > 2) throw Unsupported("find with a range");
  const std::string& what = RequireString(args, 1, "find");
  const size_t at = reverse ? Self(args).rfind(what) : Self(args).find(what);
  if (at == std::string::npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(Length(std::string_view(Self(args)).substr(0, at))));
}

Value Partition(const Args& args) {
  const std::string &s = Self(args), &sep = RequireString(args, 1, "partition");
  if (sep.empty()) throw RuntimeError("empty separator");
  const size_t at = s.find(sep);
  if (at == std::string::npos) return Value::MakeTuple({Value(s), Value(""), Value("")});
  return Value::MakeTuple({Value(s.substr(0, at)), Value(sep), Value(s.substr(at + sep.size()))});
}

Value CountInString(const Args& args) {
  const std::string& what = RequireString(args, 1, "count");
  if (what.empty()) return Value(static_cast<int64_t>(Length(Self(args)) + 1));
  int64_t n = 0;
  for (size_t at = 0; (at = Self(args).find(what, at)) != std::string::npos; at += what.size()) ++n;
  return Value(n);
}

Value JoinMethod(const Args& args) {
  std::string out;
  bool first = true;
  if (args.positional.size() < 2) throw RuntimeError("join needs an argument");
  for (const Value& item : Iterate(args.positional[1])) {
    if (!first) out += Self(args);
    first = false;
    out += RequireString({{item}, {}}, 0, "join");
    Meter::RequireText(out.size());
  }
  return Value(std::move(out));
}

// A property of every character of a string that is not empty.
template <bool (*holds)(char32_t)>
Value All(const Args& args) {
  const std::string& s = Self(args);
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

constexpr Entry kString[] = {
    {"strip", StripMethod<true, true>},
    {"lstrip", StripMethod<true, false>},
    {"rstrip", StripMethod<false, true>},
    {"split", SplitMethod<false>},
    {"rsplit", SplitMethod<true>},
    {"splitlines", SplitLines},
    {"startswith", Affix<true>},
    {"endswith", Affix<false>},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"find", FindMethodOfString<false>},
    {"rfind", FindMethodOfString<true>},
    {"count", CountInString},
    {"partition", Partition},
    {"join", JoinMethod},
    {"upper", [](const Args& a) { return CallFilter("upper", a); }},
    {"lower", [](const Args& a) { return CallFilter("lower", a); }},
    {"title", [](const Args& a) { return Value(Title(Self(a))); }},
    {"capitalize", [](const Args& a) { return CallFilter("capitalize", a); }},
    {"replace", [](const Args& a) { return CallFilter("replace", a); }},
    {"format", [](const Args& a) { return Value(FormatMethod(a)); }},
    {"isdigit", All<IsDigit>},
    {"isdecimal", All<IsDecimal>},
    {"isalpha", All<unicode::IsLetter>},
    {"isalnum", All<IsAlnum>},
    {"isspace", All<IsPythonSpace>},
};

// Python has them; a call says that they are not implemented.
constexpr std::string_view kOtherMethodsOfStrings[] = {
    "casefold",     "center",  "encode",    "expandtabs",  "format_map", "index",     "isascii",
    "isidentifier", "islower", "isnumeric", "isprintable", "istitle",    "isupper",   "ljust",
    "maketrans",    "rindex",  "rjust",     "rpartition",  "swapcase",   "translate", "zfill"};

std::optional<Value> OtherMethodOfString(const std::string& name) {
  const auto& names = kOtherMethodsOfStrings;
  if (std::find(std::begin(names), std::end(names), name) == std::end(names)) return std::nullopt;
  return Value::MakeFunction(name, [name](const Args&) -> Value {
    throw Unsupported("the method '" + name + "' of strings");
  });
}

Value GetMethod(const Args& args) {
  const Value* key = args.Find(1, "key");
  if (key == nullptr) throw RuntimeError("get needs a key");
  const Value* found = SelfDict(args).Find(*key);
  const Value* fallback = args.Find(2, "default");
  return found ? *found : fallback ? *fallback : Value();
}

Value Values(const Args& args) {
  List values;
  for (const auto& [key, value] : SelfDict(args).items) values.push_back(value);
  return Value(std::move(values));
}

// The sandbox refuses them too: transformers' environment is immutable.
Value Immutable(const Args&) {
  throw RuntimeError("lists and dicts cannot be changed in a chat template");
}

constexpr Entry kDict[] = {
    {"items", [](const Args& a) { return CallFilter("items", a); }},
    {"keys", [](const Args& a) { return Value(Iterate(a.positional[0])); }},
    {"values", Values},
    {"get", GetMethod},
    {"copy", [](const Args& a) { return a.positional[0]; }},
    {"pop", Immutable},
    {"popitem", Immutable},
    {"update", Immutable},
    {"setdefault", Immutable},
    {"clear", Immutable},
};

Value CountInList(const Args& args) {
  if (args.positional.size() < 2) throw RuntimeError("count needs an argument");
  return Value(static_cast<int64_t>(
      std::count_if(SelfList(args).begin(), SelfList(args).end(),
                    [&](const Value& v) { return Equal(v, args.positional[1]); })));
}

Value IndexInList(const Args& args) {
  if (args.positional.size() < 2) throw RuntimeError("index needs an argument");
  for (size_t i = 0; i < SelfList(args).size(); ++i) {
    if (Equal(SelfList(args)[i], args.positional[1])) return Value(static_cast<int64_t>(i));
  }
  throw RuntimeError("the value is not in the list");
}

constexpr Entry kList[] = {
    {"count", CountInList}, {"index", IndexInList}, {"append", Immutable}, {"extend", Immutable},
    {"insert", Immutable},  {"pop", Immutable},     {"remove", Immutable}, {"reverse", Immutable},
    {"sort", Immutable},    {"clear", Immutable},
};

template <size_t N>
std::optional<Value> Bind(const Entry (&table)[N], const Value& object, const std::string& name) {
  for (const Entry& entry : table) {
    if (entry.name != name) continue;
    return Value::MakeFunction(name, [object, method = entry.method](const Args& args) {
      if (const std::string* s = object.AsString()) Meter::Work(s->size() / 64);
      Args with_self = args;
      with_self.positional.insert(with_self.positional.begin(), object);
      return method(with_self);
    });
  }
  return std::nullopt;
}

}  // namespace

std::optional<Value> FindMethod(const Value& object, const std::string& name) {
  if (object.AsString()) {
    auto method = Bind(kString, object, name);
    if (method) RequirePlain(object, name);
    return method ? method : OtherMethodOfString(name);
  }
  if (object.AsDict()) return Bind(kDict, object, name);
  if (object.AsSequence()) return Bind(kList, object, name);
  return std::nullopt;
}

}  // namespace liger::trainer::jinja
