// Jinja's filters: "x | trim". Those of text; layout and markup are in layout_filters.cpp, numbers
// in number_filters.cpp, sequences in sequence_filters.cpp and generator_filters.cpp.

#include <algorithm>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/format.h"
#include "worker/trainer/text/jinja/layout_filters.h"
#include "worker/trainer/text/jinja/number_filters.h"
#include "worker/trainer/text/jinja/sequence_filters.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

std::string SelfText(const Args& args) { return ToString(args.positional[0]); }
std::string PlainText(const Args& args, const char* filter) {
  RequirePlain(args.positional[0], filter);
  return SelfText(args);
}

Value Upper(const Args& args) { return Value(MapCase(PlainText(args, "upper"), true)); }
// As %: keywords are the names, else the arguments in turn.
Value Format(const Args& args) {
  List values(args.positional.begin() + 1, args.positional.end());
  Dict names;
  for (const auto& [name, value] : args.keyword) names.Set(Value(name), value);
  if (!values.empty() && !names.items.empty()) {
    throw RuntimeError("can't handle positional and keyword arguments at the same time");
  }
  return Value(PercentFormat(PlainText(args, "format"),
                             names.items.empty() ? Value::MakeTuple(values) : Value(names)));
}

Value Lower(const Args& args) { return Value(MapCase(PlainText(args, "lower"), false)); }

Value Capitalize(const Args& args) {
  const std::string s = PlainText(args, "capitalize");
  if (s.empty()) return Value(s);
  const size_t n = unicode::Utf8Length(s[0]);
  return Value(MapCase(s.substr(0, n), true) + MapCase(s.substr(n), false));
}

// Jinja's own: a word starts after spaces, hyphens and opening brackets.
Value TitleFilter(const Args& args) {
  const std::string s = PlainText(args, "title");
  std::string out;
  bool starts = true;
  for (const std::string_view c : Characters(s)) {
    const char* p = c.data();
    const char32_t code = unicode::NextCodePoint(p);
    out += MapCase(c, starts);
    starts = IsPythonSpace(code) ||
             (code < 0x80 && std::string_view("-([{<").find(c[0]) != std::string_view::npos);
  }
  return Value(std::move(out));
}

Value Trim(const Args& args) {
  return Value(Strip(PlainText(args, "trim"), args.Find(1, "chars"), true, true));
}

Value Replace(const Args& args) {
  const std::string s = SelfText(args);
  const Value *old_text = args.Find(1, "old"), *new_text = args.Find(2, "new");
  if (!old_text || !new_text) throw RuntimeError("replace needs two texts");
  const std::string from = ToString(*old_text), to = ToString(*new_text);
  int64_t left = IntOr(args.Find(3, "count"), -1);
  std::string out;
  size_t done = 0;
  if (from.empty()) {  // Python puts `to` between all characters
    for (const std::string_view c : Characters(s)) {
      if (left-- != 0)
        out += to;
      else
        left = 0;
      out += c;
      Meter::RequireText(out.size());
    }
    if (left != 0) out += to;
    return Value(std::move(out));
  }
  for (size_t at; left != 0 && (at = s.find(from, done)) != std::string::npos; --left) {
    out.append(s, done, at - done).append(to);
    done = at + from.size();
    Meter::RequireText(out.size());
  }
  return Value(out.append(s, done));
}

Value ToJsonFilter(const Args& args) {
  JsonStyle style;
  const Value* indent = args.Find(2, "indent");
  const Value* ascii = args.Find(1, "ensure_ascii");
  const Value* separators = args.Find(3, "separators");
  const Value* sort = args.Find(4, "sort_keys");
  style.ensure_ascii = ascii != nullptr && ascii->Truthy();
  style.sort_keys = sort != nullptr && sort->Truthy();
  if (indent && indent->AsString()) {
    style.indent = *indent->AsString();
  } else if (indent && !indent->IsNone()) {
    const int64_t spaces = std::max<int64_t>(IntOr(indent, 0), 0);
    if (spaces > kMaxFill) throw Unsupported("tojson with an indent of more than 65536 spaces");
    style.indent = std::string(static_cast<size_t>(spaces), ' ');
  }
  if (style.indent) style.item_separator = ",";
  if (separators != nullptr && !separators->IsNone()) {
    const List pair = Iterate(*separators);
    if (pair.size() != 2) throw RuntimeError("tojson needs two separators");
    style.item_separator = ToString(pair[0]);
    style.key_separator = ToString(pair[1]);
  }
  return Value(ToJson(args.positional[0], style));
}

Value Default(const Args& args) {
  const Value* fallback = args.Find(1, "default_value");
  const Value* boolean = args.Find(2, "boolean");
  const Value& self = args.positional[0];
  const bool replace = self.IsUndefined() || (boolean && boolean->Truthy() && !self.Truthy());
  return replace ? (fallback ? *fallback : Value("")) : self;
}

// x|attr("name") is x.name where that is an attribute; a dict's keys are none.
Value Attr(const Args& args) {
  const Value& self = args.positional[0];
  RequireDefined(self);
  const Value* name = args.Find(1, "name");
  if (name == nullptr) throw RuntimeError("attr needs a name");
  const std::string attribute = ToString(*name);
  if (self.AsDict() && !FindMethod(self, attribute)) {
    return Value::MakeUndefined("'dict object' has no attribute '" + attribute + "'");
  }
  return GetAttribute(self, attribute);
}

Value WordCount(const Args& args) {
  int64_t n = 0;
  bool inside = false;
  const std::string s = SelfText(args);
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    const bool word = unicode::IsWord(unicode::NextCodePoint(p));
    n += word && !inside;
    inside = word;
  }
  return Value(n);
}

constexpr Named kFilters[] = {
    {"trim", Trim},
    {"upper", Upper},
    {"lower", Lower},
    {"capitalize", Capitalize},
    {"title", TitleFilter},
    {"replace", Replace},
    {"tojson", ToJsonFilter},
    {"default", Default},
    {"d", Default},
    {"attr", Attr},
    {"format", Format},
    {"string",
     [](const Args& a) {
       return a.positional[0].IsMarkup() ? a.positional[0] : Value(SelfText(a));
     }},
    {"wordcount", WordCount},
};

}  // namespace

Builtin FindFilter(std::string_view name) {
  if (const Builtin found = FindIn(kFilters, name)) return found;
  for (const auto find : {FindNumberFilter, FindLayoutFilter}) {
    if (const Builtin filter = find(name)) return filter;
  }
  return FindSequenceFilter(name);
}

}  // namespace liger::trainer::jinja
