// Methods of Python's str, dict and list that templates call. Those of texts that search, pad or
// test are in text_methods.cpp.

#include <algorithm>
#include <cctype>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/format.h"
#include "worker/trainer/text/jinja/signatures.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/jinja/text_methods.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

// In a method the object is the first argument.
const std::string& Self(const Args& args) { return *args.positional[0].AsString(); }
const Dict& SelfDict(const Args& args) { return *args.positional[0].AsDict(); }
const List& SelfList(const Args& args) { return args.positional[0].AsSequence()->items; }

Value CallFilter(const char* name, const Args& args) { return FindFilter(name)(args); }

template <bool left, bool right>
Value StripMethod(const Args& args) {
  return Strip(Self(args), args.Find(1, ""), left, right);
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
  const Value* keep = args.Find(1, "keepends");
  List lines;
  for (const std::string_view line : Lines(Self(args), keep != nullptr && keep->Truthy())) {
    lines.emplace_back(std::string(line));
  }
  return Value(std::move(lines));
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

Value FormatMap(const Args& args) {
  if (args.positional.size() < 2) throw RuntimeError("format_map needs a dict");
  const Dict* dict = args.positional[1].AsDict();
  if (dict == nullptr) throw RuntimeError("format_map needs a dict");
  Args inner{{args.positional[0]}, {}};
  for (const auto& [key, value] : dict->items) {
    if (key.AsString()) inner.keyword.emplace_back(*key.AsString(), value);
  }
  return Value(FormatMethod(inner));
}

constexpr Named kString[] = {
    {"strip", StripMethod<true, true>},
    {"lstrip", StripMethod<true, false>},
    {"rstrip", StripMethod<false, true>},
    {"split", SplitMethod<false>},
    {"rsplit", SplitMethod<true>},
    {"splitlines", SplitLines},
    {"join", JoinMethod},
    {"upper", [](const Args& a) { return CallFilter("upper", a); }},
    {"lower", [](const Args& a) { return CallFilter("lower", a); }},
    {"title", [](const Args& a) { return Value(Title(Self(a))); }},
    {"capitalize", [](const Args& a) { return CallFilter("capitalize", a); }},
    {"replace", [](const Args& a) { return CallFilter("replace", a); }},
    {"format", [](const Args& a) { return Value(FormatMethod(a)); }},
    {"format_map", FormatMap},
};

// Python has them; a call says that they are not implemented.
constexpr std::string_view kOtherMethodsOfStrings[] = {"encode", "maketrans", "translate"};

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
  RequireHashable(*key);
  const Value* found = SelfDict(args).Find(*key);
  const Value* fallback = args.Find(2, "default");
  return found ? *found : fallback ? *fallback : Value();
}

template <typename Item>
Value ViewOf(const Args& args, const char* name, Item item) {
  Sequence view{{}, Sequence::Kind::kView};
  view.view_name = name;
  for (const auto& entry : SelfDict(args).items) view.items.push_back(item(entry));
  return Value::MakeSequence(std::move(view));
}
using DictItem = std::pair<Value, Value>;
Value ItemsView(const Args& args) {
  return ViewOf(args, "dict_items", [](const DictItem& i) {
    return Value::MakeTuple({i.first, i.second});
  });
}
Value KeysView(const Args& args) {
  return ViewOf(args, "dict_keys", [](const DictItem& i) { return i.first; });
}
Value ValuesView(const Args& args) {
  return ViewOf(args, "dict_values", [](const DictItem& i) { return i.second; });
}

// The sandbox refuses them too: transformers' environment is immutable.
Value Immutable(const Args&) {
  throw RuntimeError("lists and dicts cannot be changed in a chat template");
}

// Values never change, so that a copy is not told from the original.
Value Copy(const Args& args) { return args.positional[0]; }
Value OtherOfDicts(const Args&) { throw Unsupported("the method 'fromkeys' of dicts"); }

constexpr Named kDict[] = {
    {"items", ItemsView},      {"keys", KeysView},     {"values", ValuesView},
    {"get", GetMethod},        {"copy", Copy},         {"fromkeys", OtherOfDicts},
    {"pop", Immutable},        {"popitem", Immutable}, {"update", Immutable},
    {"setdefault", Immutable}, {"clear", Immutable},
};

Value CountInList(const Args& args) {
  if (args.positional.size() > 2) throw RuntimeError("count takes one argument");
  return Value(static_cast<int64_t>(
      std::count_if(SelfList(args).begin(), SelfList(args).end(),
                    [&](const Value& v) { return Equal(v, args.positional[1]); })));
}

Value IndexInList(const Args& args) {
  if (args.positional.size() > 2) throw Unsupported("index of a list in a range");
  for (size_t i = 0; i < SelfList(args).size(); ++i) {
    if (Equal(SelfList(args)[i], args.positional[1])) return Value(static_cast<int64_t>(i));
  }
  throw RuntimeError("the value is not in the list");
}

constexpr Named kList[] = {
    {"count", CountInList}, {"index", IndexInList}, {"copy", Copy},       {"append", Immutable},
    {"extend", Immutable},  {"insert", Immutable},  {"pop", Immutable},   {"remove", Immutable},
    {"reverse", Immutable}, {"sort", Immutable},    {"clear", Immutable},
};
constexpr Named kTuple[] = {{"count", CountInList}, {"index", IndexInList}};

Value BindMethod(Builtin method, const Value& object, const std::string& name) {
  return Value::MakeFunction(name, [object, method, name](const Args& args) {
    if (const std::string* s = object.AsString()) Meter::Work(s->size() / 64);
    Args with_self = args;
    with_self.positional.insert(with_self.positional.begin(), object);
    CheckMethodArguments(name, with_self);
    return method(with_self);
  });
}

template <size_t N>
std::optional<Value> Bind(const Named (&table)[N], const Value& object, const std::string& name) {
  const Builtin method = FindIn(table, name);
  if (method == nullptr) return std::nullopt;
  return BindMethod(method, object, name);
}

}  // namespace

std::optional<Value> FindMethod(const Value& object, const std::string& name) {
  if (object.AsString()) {
    auto method = Bind(kString, object, name);
    if (const Builtin other = FindTextMethod(name)) method = BindMethod(other, object, name);
    if (method) RequirePlain(object, name);
    return method ? method : OtherMethodOfString(name);
  }
  if (object.AsDict()) return Bind(kDict, object, name);
  const Sequence* sequence = object.AsSequence();
  if (sequence == nullptr || sequence->kind == Sequence::Kind::kView) return std::nullopt;
  return sequence->kind == Sequence::Kind::kList ? Bind(kList, object, name)
                                                 : Bind(kTuple, object, name);
}

}  // namespace liger::trainer::jinja
