#include "worker/trainer/text/jinja/sequence_filters.h"

#include <algorithm>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/generator_filters.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {
namespace {

const Value& Self(const Args& args) { return args.positional[0]; }

Value Length(const Args& args) {
  const Value& self = Self(args);
  if (const std::string* s = self.AsString()) {
    return Value(static_cast<int64_t>(jinja::Length(*s)));
  }
  if (const Sequence* s = self.AsSequence()) return Value(static_cast<int64_t>(s->items.size()));
  if (const Dict* d = self.AsDict()) return Value(static_cast<int64_t>(d->items.size()));
  if (self.IsUndefined()) return Value(int64_t{0});
  throw RuntimeError("object of type '" + self.TypeName() + "' has no len()");
}

Value First(const Args& args) {
  if (Generator* generator = Self(args).AsGenerator()) {
    if (const Value* next = generator->Next()) return *next;
  }
  const List items = Iterate(Self(args));
  return items.empty() ? Value::MakeUndefined("No first item, sequence was empty.") : items[0];
}

Value Last(const Args& args) {
  if (Self(args).AsGenerator()) {  // which Python's reversed() does not take
    throw RuntimeError("'generator' object is not reversible");
  }
  const List items = Iterate(Self(args));
  return items.empty() ? Value::MakeUndefined("No last item, sequence was empty.") : items.back();
}

Value Join(const Args& args) {
  const Value* separator = args.Find(1, "d");
  const Value* attribute = args.Find(2, "attribute");
  const std::string between = separator ? ToString(*separator) : "";
  std::string out;
  bool first = true;
  for (const Value& item : Iterate(Self(args))) {
    if (!first) out += between;
    first = false;
    out += ToString(attribute ? Attribute(item, *attribute) : item);
    Meter::RequireText(out.size());
  }
  return Value(std::move(out));
}

// What sort compares: a list of one, or of those attributes that "a,b" names.
Value SortKeys(const Value& item, const Value* attribute, bool case_sensitive) {
  List keys;
  if (!attribute || !attribute->AsString()) {
    return Value(List{SortKey(item, attribute, case_sensitive)});
  }
  const std::string& names = *attribute->AsString();
  for (size_t done = 0; done <= names.size();) {
    const size_t end = std::min(names.find(',', done), names.size());
    const Value name(names.substr(done, end - done));
    keys.push_back(SortKey(item, &name, case_sensitive));
    done = end + 1;
  }
  return Value(std::move(keys));
}

Value Sort(const Args& args) {
  const Value* reverse = args.Find(1, "reverse");
  const Value* sensitive = args.Find(2, "case_sensitive");
  const Value* attribute = args.Find(3, "attribute");
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : Iterate(Self(args))) {
    keyed.emplace_back(SortKeys(item, attribute, sensitive && sensitive->Truthy()), item);
  }
  const bool descending = reverse && reverse->Truthy();
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return descending ? Less(b.first, a.first) : Less(a.first, b.first);
  });
  List out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return Value(std::move(out));
}

template <bool largest>
Value Extreme(const Args& args) {
  const Value* sensitive = args.Find(1, "case_sensitive");
  const Value* attribute = args.Find(2, "attribute");
  const List items = Iterate(Self(args));
  if (items.empty()) return Value::MakeUndefined("No aggregated item, sequence was empty.");
  const auto key = [&](const Value& v) {
    return SortKey(v, attribute, sensitive && sensitive->Truthy());
  };
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    if (largest ? Less(key(items[best]), key(items[i])) : Less(key(items[i]), key(items[best]))) {
      best = i;
    }
  }
  return items[best];
}

Value Sum(const Args& args) {
  const Value* attribute = args.Find(1, "attribute");
  const Value* start = args.Find(2, "start");
  if (start && start->AsString()) throw RuntimeError("sum() can't sum strings [use join instead]");
  Value total = start ? *start : Value(int64_t{0});
  for (const Value& item : Iterate(Self(args))) {
    total = Operate("+", total, attribute ? Attribute(item, *attribute) : item);
  }
  return total;
}

Value DictSort(const Args& args) {
  const Value* sensitive = args.Find(1, "case_sensitive");
  const Value* by = args.Find(2, "by");
  const Value* reverse = args.Find(3, "reverse");
  const std::string part = by ? ToString(*by) : "key";
  if (part != "key" && part != "value") {
    throw RuntimeError("You can only sort by either \"key\" or \"value\"");
  }
  const Dict* dict = Self(args).AsDict();
  if (dict == nullptr) throw RuntimeError("dictsort needs a dict, not " + Self(args).TypeName());
  List items;
  for (const auto& [key, value] : dict->items) items.push_back(Value::MakeTuple({key, value}));
  Args sort{{Value(std::move(items)), Value(reverse && reverse->Truthy())}, {}};
  sort.keyword.emplace_back("case_sensitive", Value(sensitive && sensitive->Truthy()));
  sort.keyword.emplace_back("attribute", Value(int64_t{part == "value" ? 1 : 0}));
  return Sort(sort);
}

// Sorted by the attribute, neighbours with the same one together; a group has the first's spelling.
Value GroupBy(const Args& args) {
  const Value* attribute = args.Find(1, "attribute");
  if (attribute == nullptr) throw RuntimeError("groupby needs an attribute");
  const Value* fallback = args.Find(2, "default");
  const Value* sensitive = args.Find(3, "case_sensitive");
  const bool by_case = sensitive && sensitive->Truthy();
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : Iterate(Self(args))) {
    keyed.emplace_back(SortKey(item, attribute, by_case, fallback), item);
  }
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const auto& a, const auto& b) { return Less(a.first, b.first); });
  List groups;
  for (size_t i = 0; i < keyed.size();) {
    const size_t begin = i;
    List items;
    while (i < keyed.size() && Equal(keyed[i].first, keyed[begin].first)) {
      items.push_back(keyed[i++].second);
    }
    Value grouper = Attribute(items[0], *attribute, fallback);
    groups.push_back(Value::MakeSequence(
        {{std::move(grouper), Value(std::move(items))}, Sequence::Kind::kGroup}));
  }
  return Value(std::move(groups));
}

constexpr Named kSequenceFilters[] = {
    {"length", Length},     {"count", Length},
    {"first", First},       {"last", Last},
    {"join", Join},         {"list", [](const Args& a) { return Value(Iterate(Self(a))); }},
    {"sort", Sort},         {"min", Extreme<false>},
    {"max", Extreme<true>}, {"sum", Sum},
    {"dictsort", DictSort}, {"groupby", GroupBy},
};

}  // namespace

Value Attribute(Value item, const Value& path, const Value* fallback) {
  if (path.IsNone()) return item;
  const auto step = [&](const Value& part) {
    item = GetItem(item, part);
    if (item.IsUndefined() && fallback && !fallback->IsNone()) item = *fallback;
  };
  if (!path.AsString()) {
    step(path);
    return item;
  }
  const std::string& s = *path.AsString();
  for (size_t done = 0; done <= s.size();) {
    const size_t end = std::min(s.find('.', done), s.size());
    const std::string part = s.substr(done, end - done);
    const bool number = !part.empty() && part.size() < 10 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    step(number ? Value(int64_t{std::stoi(part)}) : Value(part));
    done = end + 1;
  }
  return item;
}

Value SortKey(const Value& item, const Value* attribute, bool case_sensitive,
              const Value* fallback) {
  const Value key = attribute ? Attribute(item, *attribute, fallback) : item;
  return case_sensitive || !key.AsString() ? key : FindFilter("lower")({{key}, {}});
}

Builtin FindSequenceFilter(std::string_view name) {
  if (const Builtin found = FindIn(kSequenceFilters, name)) return found;
  return FindGeneratorFilter(name);
}

}  // namespace liger::trainer::jinja
