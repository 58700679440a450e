#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_VALUE_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_VALUE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "worker/trainer/text/jinja/meter.h"

namespace liger::trainer::jinja {

class Value;
using List = std::vector<Value>;

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;

  // The argument at `index` or named `name`; null when not given.
  const Value* Find(size_t index, const char* name) const;
};
using Function = std::function<Value(const Args&)>;

// A missing variable or attribute: prints as nothing, is false, and fails when
// it is used for more. `what` says what is missing.
struct Undefined {
  std::string what;
};
struct None {};

// An integer that 64 bits do not hold, in decimal. Printed, compared and negated;
// computing with it is refused by name (Operate).
struct LongInteger {
  std::string digits;  // "-" before those of a negative one, no leading zeros
};

// Keys in order of insertion, as Python's dict; linear search, for they are few.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;  // of dicts and lists in one another
  const Value* Find(const Value& key) const;
  void Set(const Value& key, Value value);
};

struct Sequence {
  // What it is in Python: they differ in what they print, allow and equal.
  enum class Kind {
    kList,
    kTuple,
    kGroup,  // of groupby: a tuple of grouper and list, which are attributes too
    kRange,
    kView,  // what dict.items(), keys() and values() give
  };
  List items;
  Kind kind = Kind::kList;
  int depth = 1;                 // as Dict's
  std::string view_name;         // dict_items and the like
  int64_t range[3] = {0, 0, 1};  // start, stop, step

  bool IsTuple() const { return kind == Kind::kTuple || kind == Kind::kGroup; }
  bool IsListOrTuple() const { return kind == Kind::kList || IsTuple(); }
};

class Generator;

// namespace(...): the only thing that a template can change.
struct Namespace {
  Dict attributes;
};

struct Callable {
  std::string name;
  Function call;
  Dict attributes;        // of `loop`
  bool is_macro = false;  // which alone {% call %} calls
};

// What `escape` and `safe` make of a text: `escape` leaves it alone (markupsafe's Markup).
struct Markup {
  std::shared_ptr<const std::string> text;
};

// A Python value as templates see it. Strings, sequences and dicts are shared
// and never change (transformers' sandbox is immutable too).
class Value {
 public:
  using Storage =
      std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
                   std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>,
                   std::shared_ptr<Namespace>, std::shared_ptr<const Callable>,
                   std::shared_ptr<const LongInteger>, std::shared_ptr<Generator>, Markup>;

  Value() : storage_(None{}) {}
  Value(bool b) : storage_(b) {}     // NOLINT(google-explicit-constructor)
  Value(int64_t i) : storage_(i) {}  // NOLINT(google-explicit-constructor)
  Value(double d) : storage_(d) {}   // NOLINT(google-explicit-constructor)
  // Texts, lists and dicts throw TemplateError where Meter's bounds are passed.
  Value(std::string s);                            // NOLINT(google-explicit-constructor)
  Value(const char* s) : Value(std::string(s)) {}  // NOLINT(google-explicit-constructor)
  Value(List items)                                // NOLINT(google-explicit-constructor)
      : storage_(ShareSequence({std::move(items)})) {}
  Value(Dict dict);  // NOLINT(google-explicit-constructor)
  static Value MakeUndefined(std::string what) {
    return Value(Storage(Undefined{std::move(what)}));
  }
  static Value MakeTuple(List items) {
    return MakeSequence({std::move(items), Sequence::Kind::kTuple});
  }
  static Value MakeSequence(Sequence sequence) {
    return Value(Storage(ShareSequence(std::move(sequence))));
  }
  // `filter` is its name; `make` is called at the first visit.
  static Value MakeGenerator(std::string filter, std::function<List()> make);
  static Value MakeMarkup(std::string text) {
    const Value plain(std::move(text));
    return Value(Storage(Markup{std::get<std::shared_ptr<const std::string>>(plain.storage_)}));
  }
  static Value MakeNamespace(Dict attributes) {
    auto made = std::make_shared<Namespace>(Namespace{std::move(attributes)});
    Meter::Register(made);
    return Value(Storage(std::move(made)));
  }
  static Value MakeFunction(std::string name, Function call, Dict attributes = {},
                            bool is_macro = false) {
    return Value(Storage(std::make_shared<const Callable>(
        Callable{std::move(name), std::move(call), std::move(attributes), is_macro})));
  }
  // Of decimal digits, "-" before those of a negative one.
  static Value FromDigits(std::string digits);
  // Of exact_json.h's values too.
  static Value FromJson(const nlohmann::ordered_json& json);

  bool IsUndefined() const { return std::holds_alternative<Undefined>(storage_); }
  bool IsNone() const { return std::holds_alternative<None>(storage_); }
  bool IsBool() const { return std::holds_alternative<bool>(storage_); }
  // Integers of 64 bits; in Python a bool is one too.
  bool IsInt() const { return std::holds_alternative<int64_t>(storage_); }
  bool IsFloat() const { return std::holds_alternative<double>(storage_); }
  bool IsNumber() const { return IsInt() || IsFloat() || IsBool(); }

  const Undefined* AsUndefined() const { return std::get_if<Undefined>(&storage_); }
  // A Markup's text too, which is a string to all but a few.
  const std::string* AsString() const {
    return IsMarkup() ? std::get<Markup>(storage_).text.get() : Shared<const std::string>();
  }
  bool IsMarkup() const { return std::holds_alternative<Markup>(storage_); }
  const Sequence* AsSequence() const { return Shared<const Sequence>(); }
  const Dict* AsDict() const { return Shared<const Dict>(); }
  Namespace* AsNamespace() const { return Shared<Namespace>(); }
  const Callable* AsCallable() const { return Shared<const Callable>(); }
  Generator* AsGenerator() const { return Shared<Generator>(); }
  const LongInteger* AsLongInteger() const { return Shared<const LongInteger>(); }

  // REQUIRES: IsBool or IsInt; IsNumber.
  int64_t AsInt() const;
  double AsDouble() const;

  bool Truthy() const;
  // Python's name of the type, for errors.
  std::string TypeName() const;

 private:
  explicit Value(Storage storage) : storage_(std::move(storage)) {}
  static std::shared_ptr<const Sequence> ShareSequence(Sequence sequence);
  template <typename T>
  T* Shared() const {
    const auto* p = std::get_if<std::shared_ptr<T>>(&storage_);
    return p == nullptr ? nullptr : p->get();
  }
  Storage storage_;
};

// What map, select and other filters give in Jinja: it is true, has no length and no subscripts,
// and is visited once.
class Generator {
 public:
  Generator(std::string filter, std::function<List()> make)
      : filter_(std::move(filter)), make_(std::move(make)) {}

  const std::string& filter() const { return filter_; }
  // The items that no visit has had yet.
  List Rest();
  // The next of them; null: there is none.
  const Value* Next();
  // A loop ended early: what is left then is not told (Jinja's loop looks ahead).
  void LeaveEarly() { is_left_early_ = true; }

 private:
  const List& Items();

  const std::string filter_;
  std::function<List()> make_;
  Value items_;  // none until they are made
  size_t at_ = 0;
  bool is_left_early_ = false;
};

// ==. Values of different types differ, but 1 == 1.0 == true.
bool Equal(const Value& a, const Value& b);
// <, for numbers, strings and sequences; throws TemplateError for others.
bool Less(const Value& a, const Value& b);
// What a for loop visits: items, characters or keys; throws for others. A generator has no
// items left behind it.
List Iterate(const Value& value);
bool IsIterable(const Value& value);

// Throws TemplateError that says what is undefined.
void RequireDefined(const Value& value);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_VALUE_H_
