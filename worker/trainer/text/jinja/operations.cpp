// Attributes, subscripts and operators.

#include <algorithm>
#include <cmath>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/format.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {
namespace {

// Bounds what one operation can make: a template is not to fill the memory.
constexpr size_t kMaxRepeatBytes = 1 << 20;

[[noreturn]] void Overflow() {
  throw Unsupported("computing with integers beyond 64 bits");
}

Value Missing(const Value& object, const std::string& name) {
  return Value::MakeUndefined("'" + object.TypeName() + " object' has no attribute '" + name + "'");
}

std::optional<size_t> Position(int64_t index, size_t size) {
  const auto n = static_cast<int64_t>(size);
  if (index < 0) index += n;
  if (index < 0 || index >= n) return std::nullopt;
  return static_cast<size_t>(index);
}

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

// Python's float power: no zero to a negative power, no overflow; a root of a negative number
// is complex there.
Value Power(double a, double b) {
  if (a == 0 && b < 0) throw RuntimeError("zero to a negative power");
  const double r = std::pow(a, b);
  if (std::isinf(r) && std::isfinite(a) && std::isfinite(b)) {
    throw RuntimeError("(34, 'Numerical result out of range')");
  }
  if (std::isnan(r) && !std::isnan(a) && !std::isnan(b)) throw Unsupported("a complex number");
  return Value(r);
}

Value OperateDoubles(const std::string& op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Power(a, b);
  if (b == 0) throw RuntimeError("division by zero");
  if (op == "/") return Value(a / b);
  const double q = std::floor(a / b);
  return op == "//" ? Value(q) : Value(a - q * b);
}

Value OperateInts(const std::string& op, int64_t a, int64_t b) {
  int64_t r = 0;
  if (op == "+") return __builtin_add_overflow(a, b, &r) ? Overflow(), Value() : Value(r);
  if (op == "-") return __builtin_sub_overflow(a, b, &r) ? Overflow(), Value() : Value(r);
  if (op == "*") return __builtin_mul_overflow(a, b, &r) ? Overflow(), Value() : Value(r);
  if (op == "**") {
    if (b < 0) return OperateDoubles(op, static_cast<double>(a), static_cast<double>(b));
    r = 1;
    for (int64_t i = 0; i < b; ++i) {
      if (__builtin_mul_overflow(r, a, &r)) Overflow();
      if (r == 0 || (r == 1 && a == 1)) break;
      if (a == -1) return Value(int64_t{b % 2 == 0 ? 1 : -1});
    }
    return Value(r);
  }
  if (b == 0) throw RuntimeError("division by zero");
  if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
  if (a == INT64_MIN && b == -1) Overflow();
  const int64_t q = FloorDivide(a, b);
  return op == "//" ? Value(q) : Value(a - q * b);
}

Value Repeat(const Value& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  const size_t size =
      value.AsString() ? value.AsString()->size() : value.AsSequence()->items.size();
  if (size * static_cast<size_t>(std::min<int64_t>(times, kMaxRepeatBytes)) > kMaxRepeatBytes ||
      times > static_cast<int64_t>(kMaxRepeatBytes)) {
    throw BeyondBound("repeating makes more than a million items");
  }
  if (const std::string* s = value.AsString()) {
    std::string out;
    for (int64_t i = 0; i < times; ++i) out += *s;
    return value.IsMarkup() ? Value::MakeMarkup(std::move(out)) : Value(std::move(out));
  }
  List out;
  const List& items = value.AsSequence()->items;
  for (int64_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  return value.AsSequence()->IsTuple() ? Value::MakeTuple(std::move(out)) : Value(std::move(out));
}

bool IsRepeated(const Value& value) {
  return value.AsString() || (value.AsSequence() && value.AsSequence()->IsListOrTuple());
}

std::optional<Value> AddSequences(const Value& a, const Value& b) {
  if (a.AsString() && b.AsString()) {
    if (!a.IsMarkup() && !b.IsMarkup()) return Value(*a.AsString() + *b.AsString());
    const Value left = EscapeMarkup(a), right = EscapeMarkup(b);
    return Value::MakeMarkup(*left.AsString() + *right.AsString());
  }
  const Sequence *x = a.AsSequence(), *y = b.AsSequence();
  if (x == nullptr || y == nullptr || !x->IsListOrTuple() || !y->IsListOrTuple() ||
      x->IsTuple() != y->IsTuple()) {
    return std::nullopt;
  }
  List items = x->items;
  items.insert(items.end(), y->items.begin(), y->items.end());
  return x->IsTuple() ? Value::MakeTuple(std::move(items)) : Value(std::move(items));
}

// Ranges and lists alike; views have none.
const Sequence* Subscripted(const Value& object) {
  const Sequence* s = object.AsSequence();
  return s == nullptr || s->kind == Sequence::Kind::kView ? nullptr : s;
}

// Attributes of Python's numbers; none of Jinja's business, but not undefined either.
bool IsAttributeOfNumbers(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "real",      "imag",     "numerator",  "denominator", "conjugate",        "bit_length",
      "bit_count", "to_bytes", "from_bytes", "is_integer",  "as_integer_ratio", "hex",
      "fromhex"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

// `items` are those from `from` in steps of `by`, up to `to`.
Value SlicedSequence(const Sequence& whole, List items, int64_t from, int64_t to, int64_t by) {
  Sequence part{std::move(items), whole.kind};
  if (whole.kind == Sequence::Kind::kGroup) part.kind = Sequence::Kind::kTuple;
  const auto& [start, stop, step] = whole.range;
  part.range[0] = start + from * step;
  part.range[1] = start + to * step;
  part.range[2] = by * step;
  return Value::MakeSequence(std::move(part));
}

}  // namespace

Value GetAttribute(const Value& object, const std::string& name) {
  RequireDefined(object);
  if (const Callable* callable = object.AsCallable()) {
    const Value* found = callable->attributes.Find(Value(name));
    return found ? *found : Missing(object, name);
  }
  if (const Namespace* ns = object.AsNamespace()) {
    const Value* found = ns->attributes.Find(Value(name));
    return found ? *found : Missing(object, name);
  }
  if ((object.IsNumber() || object.AsLongInteger()) && IsAttributeOfNumbers(name)) {
    throw Unsupported("the attribute '" + name + "' of numbers");
  }
  if (const Sequence* s = object.AsSequence(); s && s->kind == Sequence::Kind::kGroup) {
    if (name == "grouper" || name == "list") return s->items[name == "list"];
  }
  if (std::optional<Value> method = FindMethod(object, name)) return *method;
  if (const Dict* dict = object.AsDict()) {
    if (const Value* found = dict->Find(Value(name))) return *found;
  }
  if (name.starts_with("__")) {
    return Value::MakeUndefined("access to attribute '" + name + "' is unsafe");
  }
  return Missing(object, name);
}

Value GetItem(const Value& object, const Value& key) {
  RequireDefined(object);
  RequirePlain(object, "an item");
  if (const Dict* dict = object.AsDict()) {
    if (const Value* found = dict->Find(key)) return *found;
  } else if ((Subscripted(object) || object.AsString()) && (key.IsInt() || key.IsBool())) {
    const List items = Subscripted(object) ? List() : Iterate(object);
    const List& all = Subscripted(object) ? Subscripted(object)->items : items;
    const std::optional<size_t> at = Position(key.AsInt(), all.size());
    if (at) return all[*at];
    return Missing(object, ToString(key));
  }
  if (const std::string* name = key.AsString()) return GetAttribute(object, *name);
  return Missing(object, key.IsUndefined() ? "" : Repr(key));
}

Value GetSlice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  RequireDefined(object);
  RequirePlain(object, "a slice");
  if (!object.AsString() && !Subscripted(object)) {
    throw RuntimeError("'" + object.TypeName() + "' object cannot be sliced");
  }
  for (const Value* part : {&start, &stop, &step}) {
    if (!part->IsNone() && !part->IsInt() && !part->IsBool()) {
      RequireDefined(*part);
      throw RuntimeError("slice indices must be integers or None");
    }
  }
  const List items = Iterate(object);
  const auto n = static_cast<int64_t>(items.size());
  const int64_t by = step.IsNone() ? 1 : step.AsInt();
  if (by == 0) throw RuntimeError("slice step cannot be zero");
  // Python's PySlice_AdjustIndices.
  const int64_t low = by < 0 ? -1 : 0, high = by < 0 ? n - 1 : n;
  const auto clamp = [&](const Value& v, int64_t fallback) {
    if (v.IsNone()) return fallback;
    const int64_t i = v.AsInt() < 0 ? std::max(v.AsInt(), -n - 1) + n : v.AsInt();
    return std::clamp(i, low, high);
  };
  const int64_t from = clamp(start, by < 0 ? high : low), to = clamp(stop, by < 0 ? low : high);
  List out;
  if (by > 0) {
    for (int64_t i = from; i < to; i += std::min(by, n + 1)) out.push_back(items[i]);
  } else {
    for (int64_t i = from; i > to; i += std::max(by, -n - 1)) out.push_back(items[i]);
  }
  if (!object.AsString()) {
    return SlicedSequence(*object.AsSequence(), std::move(out), from, to, by);
  }
  std::string text;
  for (const Value& c : out) text += *c.AsString();
  return Value(std::move(text));
}

Value Operate(const std::string& op, const Value& a, const Value& b) {
  if (op == "~") return Value(ToString(a) + ToString(b));
  RequireDefined(a);
  if (op == "%") RequirePlain(a, "%");
  if (op == "%" && a.AsString()) return Value(PercentFormat(*a.AsString(), b));
  RequireDefined(b);
  RequireShort(a);
  RequireShort(b);
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsFloat() || b.IsFloat()) return OperateDoubles(op, a.AsDouble(), b.AsDouble());
    return OperateInts(op, a.AsInt(), b.AsInt());
  }
  if (op == "+") {
    if (std::optional<Value> sum = AddSequences(a, b)) return *sum;
  }
  if (op == "*") {
    if (IsRepeated(a) && (b.IsInt() || b.IsBool())) return Repeat(a, b.AsInt());
    if (IsRepeated(b) && (a.IsInt() || a.IsBool())) return Repeat(b, a.AsInt());
  }
  throw RuntimeError("unsupported operand type(s) for " + op + ": '" + a.TypeName() + "' and '" +
                     b.TypeName() + "'");
}

bool Contains(const Value& container, const Value& item) {
  if (const std::string* s = container.AsString()) {
    Meter::Work(s->size() / 64);
    RequireDefined(item);
    if (!item.AsString()) {
      throw RuntimeError("'in <string>' requires string as left operand, not " + item.TypeName());
    }
    return s->find(*item.AsString()) != std::string::npos;
  }
  if (const Dict* d = container.AsDict()) {
    RequireHashable(item);
    return d->Find(item) != nullptr;
  }
  if (const Sequence* s = container.AsSequence()) {
    return std::any_of(s->items.begin(), s->items.end(),
                       [&](const Value& v) { return Equal(v, item); });
  }
  if (Generator* generator = container.AsGenerator()) {
    while (const Value* next = generator->Next()) {
      if (Equal(*next, item)) return true;
    }
    return false;
  }
  if (container.IsUndefined()) return false;  // iterates as nothing
  throw RuntimeError("argument of type '" + container.TypeName() + "' is not iterable");
}

void RequirePlain(const Value& value, const std::string& what) {
  if (value.IsMarkup()) throw Unsupported(what + " of a text that was escaped before");
}

void RequireHashable(const Value& value) {
  const Sequence* s = value.AsSequence();
  if (s && s->IsTuple()) {
    std::for_each(s->items.begin(), s->items.end(), RequireHashable);
  } else if (value.AsDict() || (s && s->kind != Sequence::Kind::kRange)) {
    throw RuntimeError("unhashable type: '" + value.TypeName() + "'");
  }
}

void RequireShort(const Value& value) {
  if (const LongInteger* i = value.AsLongInteger()) {
    throw RuntimeError("computing with integers beyond 64 bits is not implemented, and this is " +
                       i->digits.substr(0, 40));
  }
}

const std::string& RequireString(const Args& args, size_t index, const char* what) {
  if (index >= args.positional.size()) throw RuntimeError(std::string(what) + " lacks an argument");
  RequireDefined(args.positional[index]);
  const std::string* s = args.positional[index].AsString();
  if (s == nullptr) {
    throw RuntimeError(std::string(what) + " needs a string, not " +
                       args.positional[index].TypeName());
  }
  return *s;
}

int64_t IntOr(const Value* value, int64_t fallback) {
  if (value == nullptr || value->IsNone()) return fallback;
  RequireDefined(*value);
  RequireShort(*value);
  if (!value->IsInt() && !value->IsBool()) {
    throw RuntimeError("expected an integer, got " + value->TypeName());
  }
  return value->AsInt();
}

}  // namespace liger::trainer::jinja
