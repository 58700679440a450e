#include "worker/trainer/text/jinja/generator_filters.h"

#include <algorithm>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/sequence_filters.h"
#include "worker/trainer/text/jinja/signatures.h"

namespace liger::trainer::jinja {
namespace {

const Value& Self(const Args& args) { return args.positional[0]; }

// As in Jinja nothing is looked at, and nothing fails, before the first visit.
template <List (*items)(const Args&)>
Value Lazily(const char* name, const Args& args) {
  return Value::MakeGenerator(name, [args] { return items(args); });
}

// `args` of map or select, for the filter or test that it names, behind `first` of them.
Args InnerArgs(const Args& args, const Value& item, size_t first) {
  Args inner{{item}, args.keyword};
  inner.positional.insert(inner.positional.end(),
                          args.positional.begin() + static_cast<int64_t>(first),
                          args.positional.end());
  return inner;
}

List MapAttribute(const Args& args) {
  const Value* attribute = nullptr;
  const Value* fallback = nullptr;
  for (const auto& [key, value] : args.keyword) {
    if (key != "attribute" && key != "default") {
      throw RuntimeError("Unexpected keyword argument '" + key + "'");
    }
    (key == "default" ? fallback : attribute) = &value;
  }
  List out;
  for (const Value& item : Iterate(Self(args))) {
    out.push_back(Attribute(item, *attribute, fallback));
  }
  return out;
}

// map("filter", args...) or map(attribute="a", default=x).
List MapItems(const Args& args) {
  if (!Self(args).Truthy()) return {};  // Jinja's looks at what is true only
  const bool by_attribute =
      args.positional.size() == 1 &&
      std::any_of(args.keyword.begin(), args.keyword.end(),
                  [](const auto& given) { return given.first == "attribute"; });
  if (by_attribute) return MapAttribute(args);
  const std::string& name = RequireString(args, 1, "map");
  const Builtin filter = FindFilter(name);
  if (filter == nullptr) throw Unsupported("the filter \"" + name + "\"");
  List out;
  for (const Value& item : Iterate(Self(args))) {
    const Args inner = InnerArgs(args, item, 2);
    CheckFilterArguments(name, inner);
    out.push_back(filter(inner));
  }
  return out;
}

// select, reject, selectattr and rejectattr: with a test, else by truth.
template <bool keep, bool by_attribute>
List ChosenItems(const Args& args) {
  if (!Self(args).Truthy()) return {};
  const size_t test_at = by_attribute ? 2 : 1;
  Builtin test = nullptr;
  std::string name;
  if (by_attribute && args.positional.size() < 2) throw RuntimeError("the attribute is missing");
  if (args.positional.size() > test_at) {
    name = RequireString(args, test_at, "select");
    test = FindTest(name);
    if (test == nullptr) throw Unsupported("the test \"" + name + "\"");
  }
  List out;
  for (const Value& item : Iterate(Self(args))) {
    const Value subject = by_attribute ? Attribute(item, args.positional[1]) : item;
    bool holds = subject.Truthy();
    if (test != nullptr) {
      const Args inner = InnerArgs(args, subject, test_at + 1);
      CheckTestArguments(name, inner);
      holds = test(inner).Truthy();
    }
    if (holds == keep) out.push_back(item);
  }
  return out;
}

List UniqueItems(const Args& args) {
  const Value* sensitive = args.Find(1, "case_sensitive");
  const Value* attribute = args.Find(2, "attribute");
  List seen, out;
  for (const Value& item : Iterate(Self(args))) {
    Value key = SortKey(item, attribute, sensitive && sensitive->Truthy());
    RequireHashable(key);
    const bool known =
        std::any_of(seen.begin(), seen.end(), [&](const Value& v) { return Equal(v, key); });
    if (known) continue;
    seen.push_back(std::move(key));
    out.push_back(item);
  }
  return out;
}

List DictItems(const Args& args) {
  if (Self(args).IsUndefined()) return {};
  const Dict* dict = Self(args).AsDict();
  if (dict == nullptr) throw RuntimeError("Can only get item pairs from a mapping.");
  List out;
  for (const auto& [key, value] : dict->items) out.push_back(Value::MakeTuple({key, value}));
  return out;
}

// Lists of `linecount` items, the last one filled up.
List Batches(const Args& args) {
  const Value* linecount = args.Find(1, "linecount");
  if (linecount == nullptr) throw RuntimeError("batch needs a number of items");
  const int64_t n = IntOr(linecount, 0);
  const Value* fill = args.Find(2, "fill_with");
  List out, batch;
  for (Value& item : Iterate(Self(args))) {
    if (static_cast<int64_t>(batch.size()) == n) out.emplace_back(std::exchange(batch, {}));
    batch.push_back(std::move(item));
  }
  if (batch.empty()) return out;
  if (fill && !fill->IsNone() && n > static_cast<int64_t>(batch.size())) {
    if (n > kMaxFill) throw Unsupported("batch of more than 65536 items with fill_with");
    batch.resize(static_cast<size_t>(n), *fill);
  }
  out.emplace_back(std::move(batch));
  return out;
}

// `slices` lists that are as long as each other, or one longer at the front.
List Slices(const Args& args) {
  const Value* count = args.Find(1, "slices");
  if (count == nullptr) throw RuntimeError("slice needs a number of slices");
  const int64_t n = IntOr(count, 0);
  const Value* fill = args.Find(2, "fill_with");
  const List items = Iterate(Self(args));
  const auto size = static_cast<int64_t>(items.size());
  if (n == 0) throw RuntimeError("integer division or modulo by zero");
  List out;
  int64_t done = 0;
  for (int64_t i = 0; i < n; ++i) {
    Meter::Work(1);
    const bool longer = i < size % n;
    const int64_t end = done + size / n + longer;
    List slice(items.begin() + done, items.begin() + end);
    if (fill && !fill->IsNone() && !longer) slice.push_back(*fill);
    out.emplace_back(std::move(slice));
    done = end;
  }
  return out;
}

List ReversedItems(const Args& args) {
  List items = Iterate(Self(args));
  std::reverse(items.begin(), items.end());
  return items;
}

// Of a text a text, of a generator a list, which Python cannot reverse.
Value Reverse(const Args& args) {
  const Value& self = Self(args);
  RequirePlain(self, "reverse");
  if (self.AsGenerator()) return Value(ReversedItems(args));
  if (!self.AsString()) {
    if (!IsIterable(self)) throw RuntimeError("argument must be iterable");
    return Lazily<ReversedItems>("reverse", args);
  }
  std::string out;
  for (const Value& c : ReversedItems(args)) out += *c.AsString();
  return Value(std::move(out));
}

constexpr Named kGeneratorFilters[] = {
    {"map", [](const Args& a) { return Lazily<MapItems>("map", a); }},
    {"select", [](const Args& a) { return Lazily<ChosenItems<true, false>>("select", a); }},
    {"reject", [](const Args& a) { return Lazily<ChosenItems<false, false>>("reject", a); }},
    {"selectattr", [](const Args& a) { return Lazily<ChosenItems<true, true>>("selectattr", a); }},
    {"rejectattr", [](const Args& a) { return Lazily<ChosenItems<false, true>>("rejectattr", a); }},
    {"unique", [](const Args& a) { return Lazily<UniqueItems>("unique", a); }},
    {"items", [](const Args& a) { return Lazily<DictItems>("items", a); }},
    {"batch", [](const Args& a) { return Lazily<Batches>("batch", a); }},
    {"slice", [](const Args& a) { return Lazily<Slices>("slice", a); }},
    {"reverse", Reverse},
};

}  // namespace

Builtin FindGeneratorFilter(std::string_view name) {
  return FindIn(kGeneratorFilters, name);
}

}  // namespace liger::trainer::jinja
