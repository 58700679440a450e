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
  if (args.positional.size() > 1) throw RuntimeError("dict expected at most 1 argument");
  for (const Value& source : args.positional) {
    if (const Dict* other = source.AsDict()) {
      dict = *other;
      continue;
    }
    for (const Value& pair : Iterate(source)) {
      const List items = Iterate(pair);
      if (items.size() != 2) throw RuntimeError("dict() needs pairs of a key and a value");
      dict.Set(items[0], items[1]);
    }
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
  Sequence range{std::move(items), Sequence::Kind::kRange};
  range.range[0] = start;
  range.range[1] = stop;
  range.range[2] = step;
  return Value::MakeSequence(std::move(range));
}

Value NamespaceOf(const Args& args) {
  Dict attributes = DictOf(args);
  for (const auto& [name, value] : attributes.items) {
    if (name.AsString() && name.AsString()->starts_with('_')) ThrowUnderscore(*name.AsString());
  }
  return Value::MakeNamespace(std::move(attributes));
}

// Nothing at the first call, then the separator.
Value Joiner(const Args& args) {
  const Value* given = args.Find(0, "sep");
  const Value separator = given ? *given : Value(", ");
  const auto is_first = std::make_shared<bool>(true);
  return Value::MakeFunction("joiner", [separator, is_first](const Args&) {
    return std::exchange(*is_first, false) ? Value("") : separator;
  });
}

// An object with next(), reset() and current.
Value Cycler(const Args& args) {
  if (args.positional.empty()) throw RuntimeError("at least one item has to be provided");
  const Value cycler = Value::MakeNamespace({});
  // Not the namespace itself, which holds the functions.
  const auto at = std::make_shared<size_t>(0);
  const auto items = std::make_shared<const List>(args.positional);
  Namespace* const object = cycler.AsNamespace();
  const auto show = [object, items, at] {
    object->attributes.Set(Value("current"), (*items)[*at]);
  };
  object->attributes.Set(Value("next"), Value::MakeFunction("next", [=](const Args&) {
                           const Value now = (*items)[*at];
                           *at = (*at + 1) % items->size();
                           show();
                           return now;
                         }));
  object->attributes.Set(Value("reset"), Value::MakeFunction("reset", [=](const Args&) {
                           *at = 0;
                           show();
                           return Value();
                         }));
  show();
  return cycler;
}

std::pair<std::string, Value> OtherGlobal(const std::string& name) {
  return {name, Value::MakeFunction(name, [name](const Args&) -> Value {
            throw Unsupported("the function '" + name + "'");
          })};
}

Dict DictAttributes() {
  Dict attributes;
  const auto [name, value] = OtherGlobal("dict.fromkeys");
  attributes.Set(Value("fromkeys"), value);
  return attributes;
}

}  // namespace

void ThrowUnderscore(const std::string& name) {
  throw RuntimeError(
      "chat templates cannot store attributes with an underscore in front on a "
      "namespace, and this is '" +
      name + "'");
}

const Value* FindGlobal(std::string_view name) {
  static const auto* const globals = new std::vector<std::pair<std::string, Value>>{
      {"raise_exception", Value::MakeFunction("raise_exception", RaiseException)},
      {"strftime_now", Value::MakeFunction("strftime_now", StrftimeNow)},
      {"namespace", Value::MakeFunction("namespace", NamespaceOf)},
      {"dict", Value::MakeFunction(
                   "dict", [](const Args& args) { return Value(DictOf(args)); }, DictAttributes())},
      {"range", Value::MakeFunction("range", Range)},
      {"cycler", Value::MakeFunction("cycler", Cycler)},
      {"joiner", Value::MakeFunction("joiner", Joiner)},
      // Jinja's other: defined, but a call says that they are not implemented.
      OtherGlobal("lipsum"),
  };
  for (const auto& [key, value] : *globals) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace liger::trainer::jinja
