#include "worker/trainer/text/jinja/sequence_filters.h"

#include <algorithm>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {
namespace {

struct Entry {
  std::string_view name;
  Builtin filter;
};

const Value& Self(const Args& args) { return args.positional[0]; }

// "a.b" of an item, as map(attribute=...) and sort(attribute=...) look it up;
// a part that is a number is an index.
Value Attribute(Value item, const Value& path) {
  if (!path.AsString()) return GetItem(item, path);
  const std::string& s = *path.AsString();
  for (size_t done = 0; done <= s.size();) {
    const size_t end = std::min(s.find('.', done), s.size());
    const std::string part = s.substr(done, end - done);
    const bool number = !part.empty() && part.size() < 10 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    item = GetItem(item, number ? Value(int64_t{std::stoi(part)}) : Value(part));
    done = end + 1;
  }
  return item;
}

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
  const List items = Iterate(Self(args));
  return items.empty() ? Value::MakeUndefined("No first item, sequence was empty.") : items[0];
}

Value Last(const Args& args) {
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

Value Reverse(const Args& args) {
  RequirePlain(Self(args), "reverse");
  List items = Iterate(Self(args));
  std::reverse(items.begin(), items.end());
  if (!Self(args).AsString()) return Value(std::move(items));
  std::string out;
  for (const Value& c : items) out += *c.AsString();
  return Value(std::move(out));
}

// What sort, unique, min and max compare: without case, unless told so.
Value SortKey(const Value& item, const Value* attribute, bool case_sensitive) {
  const Value key = attribute && !attribute->IsNone() ? Attribute(item, *attribute) : item;
  return case_sensitive || !key.AsString() ? key : FindFilter("lower")({{key}, {}});
}

Value Sort(const Args& args) {
  const Value* reverse = args.Find(1, "reverse");
  const Value* sensitive = args.Find(2, "case_sensitive");
  const Value* attribute = args.Find(3, "attribute");
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : Iterate(Self(args))) {
    keyed.emplace_back(SortKey(item, attribute, sensitive && sensitive->Truthy()), item);
  }
  const bool descending = reverse && reverse->Truthy();
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return descending ? Less(b.first, a.first) : Less(a.first, b.first);
  });
  List out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return Value(std::move(out));
}

Value Unique(const Args& args) {
  const Value* sensitive = args.Find(1, "case_sensitive");
  const Value* attribute = args.Find(2, "attribute");
  List seen, out;
  for (const Value& item : Iterate(Self(args))) {
    Value key = SortKey(item, attribute, sensitive && sensitive->Truthy());
    const bool known =
        std::any_of(seen.begin(), seen.end(), [&](const Value& v) { return Equal(v, key); });
    if (known) continue;
    seen.push_back(std::move(key));
    out.push_back(item);
  }
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
  Value total = start ? *start : Value(int64_t{0});
  for (const Value& item : Iterate(Self(args))) {
    total =
        Operate("+", total, attribute && !attribute->IsNone() ? Attribute(item, *attribute) : item);
  }
  return total;
}

Value Items(const Args& args) {
  if (Self(args).IsUndefined()) return Value(List());
  const Dict* dict = Self(args).AsDict();
  if (dict == nullptr) throw RuntimeError("Can only get item pairs from a mapping.");
  List out;
  for (const auto& [key, value] : dict->items) out.push_back(Value::MakeTuple({key, value}));
  return Value(std::move(out));
}

Value DictSort(const Args& args) {
  const Value* sensitive = args.Find(1, "case_sensitive");
  const Value* by = args.Find(2, "by");
  const Value* reverse = args.Find(3, "reverse");
  Args sort{{Items(args), Value(reverse && reverse->Truthy())}, {}};
  sort.keyword.emplace_back("case_sensitive", Value(sensitive && sensitive->Truthy()));
  sort.keyword.emplace_back("attribute", Value(int64_t{by && ToString(*by) == "value" ? 1 : 0}));
  return Sort(sort);
}

// map("filter", args...) or map(attribute="a", default=x).
Value Map(const Args& args) {
  // Jinja's looks at what is true only.
  if (!Self(args).Truthy()) return Value(List());
  List out;
  const Value* attribute = nullptr;
  const Value* fallback = nullptr;
  for (const auto& [key, value] : args.keyword) {
    if (key == "attribute") attribute = &value;
    if (key == "default") fallback = &value;
  }
  Builtin filter = nullptr;
  if (attribute == nullptr) {
    const std::string& name = RequireString(args, 1, "map");
    filter = FindFilter(name);
    if (filter == nullptr) throw Unsupported("the filter \"" + name + "\"");
  }
  for (const Value& item : Iterate(Self(args))) {
    if (filter != nullptr) {
      Args inner{{item}, args.keyword};
      inner.positional.insert(inner.positional.end(), args.positional.begin() + 2,
                              args.positional.end());
      out.push_back(filter(inner));
    } else {
      Value value = Attribute(item, *attribute);
      out.push_back(value.IsUndefined() && fallback ? *fallback : value);
    }
  }
  return Value(std::move(out));
}

// select, reject, selectattr and rejectattr: with a test, else by truth.
template <bool keep, bool by_attribute>
Value Choose(const Args& args) {
  if (!Self(args).Truthy()) return Value(List());
  const size_t test_at = by_attribute ? 2 : 1;
  Builtin test = nullptr;
  if (by_attribute && args.positional.size() < 2) throw RuntimeError("the attribute is missing");
  if (args.positional.size() > test_at) {
    const std::string& name = RequireString(args, test_at, "select");
    test = FindTest(name);
    if (test == nullptr) throw Unsupported("the test \"" + name + "\"");
  }
  List out;
  for (const Value& item : Iterate(Self(args))) {
    const Value subject = by_attribute ? Attribute(item, args.positional[1]) : item;
    bool holds = subject.Truthy();
    if (test != nullptr) {
      Args inner{{subject}, args.keyword};
      inner.positional.insert(inner.positional.end(),
                              args.positional.begin() + static_cast<int64_t>(test_at) + 1,
                              args.positional.end());
      holds = test(inner).Truthy();
    }
    if (holds == keep) out.push_back(item);
  }
  return Value(std::move(out));
}

constexpr Entry kTable[] = {
    {"length", Length},
    {"count", Length},
    {"first", First},
    {"last", Last},
    {"join", Join},
    {"reverse", Reverse},
    {"list", [](const Args& a) { return Value(Iterate(Self(a))); }},
    {"sort", Sort},
    {"unique", Unique},
    {"min", Extreme<false>},
    {"max", Extreme<true>},
    {"sum", Sum},
    {"items", Items},
    {"dictsort", DictSort},
    {"map", Map},
    {"select", Choose<true, false>},
    {"reject", Choose<false, false>},
    {"selectattr", Choose<true, true>},
    {"rejectattr", Choose<false, true>},
};

}  // namespace

Builtin FindSequenceFilter(std::string_view name) {
  for (const Entry& entry : kTable) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

}  // namespace liger::trainer::jinja
