#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_BUILTINS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_BUILTINS_H_

#include <optional>
#include <string>
#include <string_view>

#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

// Filters and tests get their input as the first argument. Each table is one
// list in its file; the parser refuses names that are not in it.
using Builtin = Value (*)(const Args& args);
struct Named {
  std::string_view name;
  Builtin builtin;
};
// Null for a name that the table does not have.
template <size_t N>
Builtin FindIn(const Named (&table)[N], std::string_view name) {
  for (const Named& entry : table) {
    if (entry.name == name) return entry.builtin;
  }
  return nullptr;
}

// To as many characters or items builtins fill up: a template is not to fill the memory.
inline constexpr int64_t kMaxFill = 1 << 16;

Builtin FindFilter(std::string_view name);
Builtin FindTest(std::string_view name);

// raise_exception, strftime_now, namespace, dict, range; null for others.
const Value* FindGlobal(std::string_view name);

// object.name where that is a method of Python's str, dict or list.
std::optional<Value> FindMethod(const Value& object, const std::string& name);

// object.name and object[key] as the sandbox resolves them; undefined when
// there is no such thing. Throw when the object itself is undefined.
Value GetAttribute(const Value& object, const std::string& name);
Value GetItem(const Value& object, const Value& key);
Value GetSlice(const Value& object, const Value& start, const Value& stop, const Value& step);

// Binary operators other than `and` and `or`; throws for types that do not fit.
Value Operate(const std::string& op, const Value& a, const Value& b);
bool Contains(const Value& container, const Value& item);

// markupsafe.escape.
Value EscapeMarkup(const Value& value);
// Throws where `value` is Markup: Python's `what` would escape the other texts.
void RequirePlain(const Value& value, const std::string& what);

// Throws for lists and dicts, which are no keys in Python.
void RequireHashable(const Value& value);

// Throws what names an integer beyond 64 bits, where only such of 64 are computed with.
void RequireShort(const Value& value);

// Throws as transformers' namespace does for names that begin with an underscore.
[[noreturn]] void ThrowUnderscore(const std::string& name);

// The first argument's type checked, for builtins.
const std::string& RequireString(const Args& args, size_t index, const char* what);
int64_t IntOr(const Value* value, int64_t fallback);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_BUILTINS_H_
