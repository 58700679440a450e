// Jinja's tests: "x is defined".

#include <iterator>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {
namespace {

const Value& Self(const Args& args) { return args.positional[0]; }

const Value& Other(const Args& args) {
  if (args.positional.size() < 2) throw RuntimeError("the test needs an argument");
  return args.positional[1];
}

bool IsMultiple(const Args& args, const Value& of) {
  return Operate("%", Self(args), of).AsDouble() == 0;
}

// Python's `is`. Small integers and texts of a template are one object each; undefined is another
// one at each look.
Value IsSame(const Args& args) {
  const Value &a = Self(args), &b = Other(args);
  if (a.AsSequence() || b.AsSequence()) return Value(a.AsSequence() == b.AsSequence());
  if (a.AsDict() || b.AsDict()) return Value(a.AsDict() == b.AsDict());
  if (a.IsUndefined() || b.IsUndefined()) return Value(false);
  return Value(a.TypeName() == b.TypeName() && Equal(a, b));
}

// What has a length and subscripts.
Value IsSequence(const Args& args) {
  const Value& self = Self(args);
  const Sequence* s = self.AsSequence();
  return Value(IsIterable(self) && !self.AsGenerator() &&
               (s == nullptr || s->kind != Sequence::Kind::kView));
}

template <Builtin (*find)(std::string_view)>
Value IsNameOf(const Args& args) {
  RequireHashable(Self(args));
  const std::string* name = Self(args).AsString();
  return Value(name != nullptr && find(*name) != nullptr);
}

Value IsCased(const Args& args, const char* filter) {
  const std::string s = ToString(Self(args));
  const std::string other = *FindFilter(filter)(args).AsString();
  // Python's islower wants one cased character, and none of the other case.
  const std::string opposite =
      *FindFilter(std::string_view(filter) == "lower" ? "upper" : "lower")(args).AsString();
  return Value(s == other && s != opposite);
}

constexpr Named kTests[] = {
    {"defined", [](const Args& a) { return Value(!Self(a).IsUndefined()); }},
    {"undefined", [](const Args& a) { return Value(Self(a).IsUndefined()); }},
    {"none", [](const Args& a) { return Value(Self(a).IsNone()); }},
    {"string", [](const Args& a) { return Value(Self(a).AsString() != nullptr); }},
    {"number", [](const Args& a) { return Value(Self(a).IsNumber() || Self(a).AsLongInteger()); }},
    {"integer", [](const Args& a) { return Value(Self(a).IsInt() || Self(a).AsLongInteger()); }},
    {"float", [](const Args& a) { return Value(Self(a).IsFloat()); }},
    {"boolean", [](const Args& a) { return Value(Self(a).IsBool()); }},
    {"true", [](const Args& a) { return Value(Self(a).IsBool() && Self(a).Truthy()); }},
    {"false", [](const Args& a) { return Value(Self(a).IsBool() && !Self(a).Truthy()); }},
    {"mapping", [](const Args& a) { return Value(Self(a).AsDict() != nullptr); }},
    {"iterable", [](const Args& a) { return Value(IsIterable(Self(a))); }},
    {"sequence", IsSequence},
    {"escaped", [](const Args& a) { return Value(Self(a).IsMarkup()); }},
    {"filter", IsNameOf<FindFilter>},
    {"test", IsNameOf<FindTest>},
    // Jinja's Undefined has __call__.
    {"callable",
     [](const Args& a) { return Value(Self(a).AsCallable() != nullptr || Self(a).IsUndefined()); }},
    {"odd",
     [](const Args& a) {
       return Value(Operate("%", Self(a), Value(int64_t{2})).AsDouble() == 1);  // 0.5 is neither
     }},
    {"even", [](const Args& a) { return Value(IsMultiple(a, Value(int64_t{2}))); }},
    {"divisibleby", [](const Args& a) { return Value(IsMultiple(a, Other(a))); }},
    {"lower", [](const Args& a) { return IsCased(a, "lower"); }},
    {"upper", [](const Args& a) { return IsCased(a, "upper"); }},
    {"sameas", IsSame},
    {"in", [](const Args& a) { return Value(Contains(Other(a), Self(a))); }},
    {"eq", [](const Args& a) { return Value(Equal(Self(a), Other(a))); }},
    {"equalto", [](const Args& a) { return Value(Equal(Self(a), Other(a))); }},
    {"==", [](const Args& a) { return Value(Equal(Self(a), Other(a))); }},
    {"ne", [](const Args& a) { return Value(!Equal(Self(a), Other(a))); }},
    {"!=", [](const Args& a) { return Value(!Equal(Self(a), Other(a))); }},
    {"lt", [](const Args& a) { return Value(Less(Self(a), Other(a))); }},
    {"lessthan", [](const Args& a) { return Value(Less(Self(a), Other(a))); }},
    {"<", [](const Args& a) { return Value(Less(Self(a), Other(a))); }},
    {"gt", [](const Args& a) { return Value(Less(Other(a), Self(a))); }},
    {"greaterthan", [](const Args& a) { return Value(Less(Other(a), Self(a))); }},
    {">", [](const Args& a) { return Value(Less(Other(a), Self(a))); }},
    {"le", [](const Args& a) { return Value(!Less(Other(a), Self(a))); }},
    {"<=", [](const Args& a) { return Value(!Less(Other(a), Self(a))); }},
    {"ge", [](const Args& a) { return Value(!Less(Self(a), Other(a))); }},
    {">=", [](const Args& a) { return Value(!Less(Self(a), Other(a))); }},
};

}  // namespace

Builtin FindTest(std::string_view name) {
  return FindIn(kTests, name);
}

}  // namespace liger::trainer::jinja
