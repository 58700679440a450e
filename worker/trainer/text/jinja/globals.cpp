// Functions that every template sees.

#include <ctime>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {
namespace {

// As in Jinja's sandbox.
constexpr int64_t kMaxRange = 100000;

Value RaiseException(const Args& args) {
  const Value* message = args.Find(0, "message");
  throw TemplateError(TemplateError::Kind::kRaised, 0,
                      message == nullptr ? "" : ToString(*message));
}

Value StrftimeNow(const Args& args) {
  const std::string& format = RequireString(args, 0, "strftime_now");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char buffer[1024];
  // A format that makes nothing and one that makes too much both give 0.
  return Value(std::string(buffer, std::strftime(buffer, sizeof(buffer), format.c_str(), &local)));
}

Dict DictOf(const Args& args) {
  Dict dict;
  for (const Value& source : args.positional) {
    if (source.AsDict() == nullptr) throw RuntimeError("expected a dict, got " + source.TypeName());
    for (const auto& [key, value] : source.AsDict()->items) dict.Set(key, value);
  }
  for (const auto& [key, value] : args.keyword) dict.Set(Value(key), value);
  return dict;
}

Value Range(const Args& args) {
  const size_t n = args.positional.size();
  if (n < 1 || n > 3) throw RuntimeError("range takes one to three arguments");
  const int64_t start = n == 1 ? 0 : IntOr(&args.positional[0], 0);
  const int64_t stop = IntOr(&args.positional[n == 1 ? 0 : 1], 0);
  const int64_t step = n == 3 ? IntOr(&args.positional[2], 1) : 1;
  if (step == 0) throw RuntimeError("range() arg 3 must not be zero");
  List items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    items.emplace_back(i);
    if (static_cast<int64_t>(items.size()) > kMaxRange) {
      throw RuntimeError("range too big, at most 100000 items");
    }
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value(std::move(items));
}

std::pair<std::string, Value> OtherGlobal(const std::string& name) {
  return {name, Value::MakeFunction(name, [name](const Args&) -> Value {
            throw Unsupported("the function '" + name + "'");
          })};
}

}  // namespace

const Value* FindGlobal(std::string_view name) {
  static const auto* const globals = new std::vector<std::pair<std::string, Value>>{
      {"raise_exception", Value::MakeFunction("raise_exception", RaiseException)},
      {"strftime_now", Value::MakeFunction("strftime_now", StrftimeNow)},
      {"namespace",
       Value::MakeFunction("namespace",
                           [](const Args& args) { return Value::MakeNamespace(DictOf(args)); })},
      {"dict", Value::MakeFunction("dict", [](const Args& args) { return Value(DictOf(args)); })},
      {"range", Value::MakeFunction("range", Range)},
      // Jinja's others: defined, but a call says that they are not implemented.
      OtherGlobal("cycler"),
      OtherGlobal("joiner"),
      OtherGlobal("lipsum"),
  };
  for (const auto& [key, value] : *globals) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace liger::trainer::jinja
