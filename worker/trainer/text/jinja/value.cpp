#include "worker/trainer/text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <system_error>

#include "worker/trainer/exact_json.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {

namespace {

// What a Value shares, counted while it lives.
template <typename T>
struct Counted {
  Counted(T v, size_t size) : value(std::move(v)), bytes(size) {}
  T value;
  Meter::Bytes bytes;
};

template <typename T>
std::shared_ptr<const T> Share(T value, size_t bytes) {
  Meter::Work(bytes / 16);
  const auto counted = std::make_shared<const Counted<T>>(std::move(value), bytes);
  return std::shared_ptr<const T>(counted, &counted->value);
}

// The digits of a whole number, "" of other values. (Doubles beyond 64 bits are whole.)
std::string WholeDigits(const Value& value) {
  if (const LongInteger* i = value.AsLongInteger()) return i->digits;
  if (value.IsInt() || value.IsBool()) return std::to_string(value.AsInt());
  if (!value.IsFloat() || !std::isfinite(value.AsDouble())) return "";
  char text[400];
  std::snprintf(text, sizeof(text), "%.0f", std::trunc(value.AsDouble()));
  return text;
}

// -1, 0 or 1, where one of the two is beyond 64 bits; nullopt: they do not compare.
// A double that is as large is whole, and one that is smaller may be cut.
std::optional<int> CompareLong(const Value& a, const Value& b) {
  if (a.IsFloat() && std::isinf(a.AsDouble())) return a.AsDouble() < 0 ? -1 : 1;
  if (b.IsFloat() && std::isinf(b.AsDouble())) return b.AsDouble() < 0 ? 1 : -1;
  const std::string x = WholeDigits(a), y = WholeDigits(b);
  if (x.empty() || y.empty()) return std::nullopt;
  const bool negative = x.starts_with('-');
  if (negative != y.starts_with('-')) return negative ? -1 : 1;
  int order = x.size() == y.size() ? x.compare(y) : x.size() < y.size() ? -1 : 1;
  order = order < 0 ? -1 : order > 0;
  return negative ? -order : order;
}

int DepthOf(const Value& value) {
  if (const Sequence* s = value.AsSequence()) return s->depth;
  const Dict* d = value.AsDict();
  return d == nullptr ? 0 : d->depth;
}

}  // namespace

Value::Value(std::string s) {
  Meter::RequireText(s.size());
  const size_t bytes = s.size() + sizeof(s);
  storage_ = Share(std::move(s), bytes);
}

std::shared_ptr<const Sequence> Value::ShareSequence(Sequence sequence) {
  for (const Value& item : sequence.items) {
    sequence.depth = std::max(sequence.depth, DepthOf(item) + 1);
  }
  Meter::RequireDepth(sequence.depth);
  const size_t bytes = sequence.items.size() * sizeof(Value) + sizeof(sequence);
  return Share(std::move(sequence), bytes);
}

Value::Value(Dict dict) {
  for (const auto& [key, item] : dict.items) {
    dict.depth = std::max({dict.depth, DepthOf(key) + 1, DepthOf(item) + 1});
  }
  Meter::RequireDepth(dict.depth);
  const size_t bytes = dict.items.size() * 2 * sizeof(Value) + sizeof(dict);
  storage_ = Share(std::move(dict), bytes);
}

Value Value::MakeGenerator(std::string filter, std::function<List()> make) {
  return Value(Storage(std::make_shared<Generator>(std::move(filter), std::move(make))));
}

const List& Generator::Items() {
  if (is_left_early_) {
    throw Unsupported("visiting again what " + filter_ + " gives, behind a {% break %},");
  }
  if (make_) items_ = Value(std::exchange(make_, nullptr)());
  return items_.AsSequence()->items;
}

List Generator::Rest() {
  const List& items = Items();
  Meter::Work(items.size());
  return List(items.begin() + static_cast<int64_t>(std::exchange(at_, items.size())), items.end());
}

const Value* Generator::Next() {
  const List& items = Items();
  return at_ < items.size() ? &items[at_++] : nullptr;
}

const Value* Args::Find(size_t index, const char* name) const {
  for (const auto& [key, value] : keyword) {
    if (key == name) return &value;
  }
  return index < positional.size() ? &positional[index] : nullptr;
}

const Value* Dict::Find(const Value& key) const {
  Meter::Work(items.size() / 8);
  for (const auto& [k, v] : items) {
    if (Equal(k, key)) return &v;
  }
  return nullptr;
}

void Dict::Set(const Value& key, Value value) {
  Meter::Work(items.size() / 8);
  for (auto& [k, v] : items) {
    if (Equal(k, key)) {
      v = std::move(value);
      return;
    }
  }
  items.emplace_back(key, std::move(value));
}

Value Value::FromDigits(std::string digits) {
  const bool negative = digits.starts_with('-');
  const size_t first = digits.find_first_not_of('0', negative);
  digits.erase(negative, std::min(first, digits.size()) - negative);
  int64_t small = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), small);
  if (error != std::errc::result_out_of_range) return Value(small);
  Meter::RequireText(digits.size());
  const size_t bytes = digits.size() + sizeof(LongInteger);
  return Value(Storage(Share(LongInteger{std::move(digits)}, bytes)));
}

Value Value::FromJson(const nlohmann::ordered_json& json) {
  if (json.is_null()) return Value();
  if (json.is_boolean()) return Value(json.get<bool>());
  if (json.is_number_unsigned()) return FromDigits(std::to_string(json.get<uint64_t>()));
  if (json.is_number_integer()) return Value(json.get<int64_t>());
  if (IsLongInteger(json)) return FromDigits(LongIntegerText(json));
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_string()) return Value(json.get<std::string>());
  if (json.is_array()) {
    List items;
    for (const auto& item : json) items.push_back(FromJson(item));
    return Value(std::move(items));
  }
  Dict dict;
  for (const auto& [key, item] : json.items()) dict.items.emplace_back(key, FromJson(item));
  return Value(std::move(dict));
}

int64_t Value::AsInt() const {
  return IsBool() ? int64_t{std::get<bool>(storage_)} : std::get<int64_t>(storage_);
}

double Value::AsDouble() const {
  return IsFloat() ? std::get<double>(storage_) : static_cast<double>(AsInt());
}

bool Value::Truthy() const {
  if (IsUndefined() || IsNone()) return false;
  if (IsNumber()) return AsDouble() != 0;
  if (const std::string* s = AsString()) return !s->empty();
  if (const Sequence* s = AsSequence()) return !s->items.empty();
  if (const Dict* d = AsDict()) return !d->items.empty();
  return true;
}

std::string Value::TypeName() const {
  if (IsUndefined()) return "Undefined";
  if (IsNone()) return "NoneType";
  if (IsBool()) return "bool";
  if (IsInt() || AsLongInteger()) return "int";
  if (IsFloat()) return "float";
  if (AsString()) return "str";
  if (const Sequence* s = AsSequence()) {
    if (s->kind == Sequence::Kind::kView) return s->view_name;
    return s->kind == Sequence::Kind::kRange ? "range" : s->IsTuple() ? "tuple" : "list";
  }
  if (AsGenerator()) return "generator";
  if (AsDict()) return "dict";
  return AsNamespace() ? "Namespace" : "function";
}

bool Equal(const Value& a, const Value& b) {
  Meter::Work(1);
  if (a.AsLongInteger() || b.AsLongInteger()) {
    const std::optional<int> order = CompareLong(a, b);
    return order == 0;
  }
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsFloat() || b.IsFloat()) return a.AsDouble() == b.AsDouble();
    return a.AsInt() == b.AsInt();
  }
  if (a.AsString() && b.AsString()) return *a.AsString() == *b.AsString();
  if (a.AsSequence() && b.AsSequence()) {
    const Sequence &x = *a.AsSequence(), &y = *b.AsSequence();
    if (x.kind == Sequence::Kind::kView || y.kind == Sequence::Kind::kView) {
      throw Unsupported("comparing a " + a.TypeName() + " with a " + b.TypeName());
    }
    return (x.IsTuple() ? y.IsTuple() : x.kind == y.kind) &&
           std::equal(x.items.begin(), x.items.end(), y.items.begin(), y.items.end(), Equal);
  }
  if (a.AsDict() && b.AsDict()) {
    const Dict &x = *a.AsDict(), &y = *b.AsDict();
    return x.items.size() == y.items.size() &&
           std::all_of(x.items.begin(), x.items.end(), [&](const auto& item) {
             const Value* other = y.Find(item.first);
             return other != nullptr && Equal(item.second, *other);
           });
  }
  if (a.AsNamespace() || b.AsNamespace()) return a.AsNamespace() == b.AsNamespace();
  if (a.AsGenerator() || b.AsGenerator()) return a.AsGenerator() == b.AsGenerator();
  if (a.AsCallable() || b.AsCallable()) return a.AsCallable() == b.AsCallable();
  return (a.IsNone() && b.IsNone()) || (a.IsUndefined() && b.IsUndefined());
}

bool Less(const Value& a, const Value& b) {
  Meter::Work(1);
  if (a.AsLongInteger() || b.AsLongInteger()) {
    if (const std::optional<int> order = CompareLong(a, b)) return *order < 0;
  }
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsFloat() || b.IsFloat()) return a.AsDouble() < b.AsDouble();
    return a.AsInt() < b.AsInt();
  }
  // Bytes of UTF-8 sort as code points do.
  if (a.AsString() && b.AsString()) return *a.AsString() < *b.AsString();
  const Sequence *s = a.AsSequence(), *t = b.AsSequence();
  if (s && t && s->IsListOrTuple() && t->IsListOrTuple() && s->IsTuple() == t->IsTuple()) {
    const auto [x, y] = std::mismatch(s->items.begin(), s->items.end(), t->items.begin(),
                                      t->items.end(), Equal);  // equal items need no order
    if (x == s->items.end() || y == t->items.end())
      return x == s->items.end() && y != t->items.end();
    return Less(*x, *y);
  }
  RequireDefined(a);
  RequireDefined(b);
  throw RuntimeError("cannot compare " + a.TypeName() + " with " + b.TypeName());
}

bool IsIterable(const Value& value) {
  return value.AsString() || value.AsSequence() || value.AsDict() || value.AsGenerator() ||
         value.IsUndefined();
}

List Iterate(const Value& value) {
  if (const Sequence* s = value.AsSequence()) {
    Meter::Work(s->items.size());
    return s->items;
  }
  if (Generator* generator = value.AsGenerator()) return generator->Rest();
  List items;
  if (const Dict* d = value.AsDict()) {
    for (const auto& [key, unused] : d->items) items.push_back(key);
  } else if (const std::string* s = value.AsString()) {
    for (const std::string_view c : Characters(*s)) items.emplace_back(std::string(c));
  } else if (!value.IsUndefined()) {
    throw RuntimeError("'" + value.TypeName() + "' object is not iterable");
  }
  return items;
}

void RequireDefined(const Value& value) {
  if (const Undefined* u = value.AsUndefined()) throw RuntimeError(u->what);
}

}  // namespace liger::trainer::jinja
