#include "worker/trainer/text/jinja/layout_filters.h"

#include <algorithm>
#include <cstdio>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

const Value& Self(const Args& args) { return args.positional[0]; }

Value CenterFilter(const Args& args) {
  RequirePlain(Self(args), "center");
  return Value(Center(ToString(Self(args)), IntOr(args.Find(1, "width"), 80), " "));
}

Value Indent(const Args& args) {
  RequirePlain(Self(args), "indent");
  const std::string s = RequireString(args, 0, "indent") + "\n";  // whose last line ends
  const Value* width = args.Find(1, "width");
  const Value* first = args.Find(2, "first");
  const Value* blank = args.Find(3, "blank");
  const int64_t spaces = width && width->AsString() ? 0 : IntOr(width, 4);
  if (spaces > kMaxFill) throw Unsupported("indent by more than 65536 spaces");
  const std::string pad = width && width->AsString()
                              ? *width->AsString()
                              : std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
  std::string out = first && first->Truthy() ? pad : "";
  bool at_first = true;
  for (const std::string_view line : Lines(s, /*keep_ends=*/false)) {
    if (!at_first) out += '\n';
    if (!at_first && (!line.empty() || (blank && blank->Truthy()))) out += pad;
    Meter::RequireText(out.size());
    out += line;
    at_first = false;
  }
  return Value(std::move(out));
}

// Jinja cuts only what is longer by more than `leeway`, and leaves a short list alone too.
Value Truncate(const Args& args) {
  const Value& self = Self(args);
  RequirePlain(self, "truncate");
  const int64_t size = FindFilter("length")({{self}, {}}).AsInt();
  const int64_t length = IntOr(args.Find(1, "length"), 255);
  const Value* kill_words = args.Find(2, "killwords");
  const Value* end = args.Find(3, "end");
  const int64_t leeway = IntOr(args.Find(4, "leeway"), 5);
  const std::string ending = end ? RequireString({{*end}, {}}, 0, "truncate") : "...";
  const auto kept = length - static_cast<int64_t>(Length(ending));
  if (kept < 0) throw RuntimeError("expected length >= " + std::to_string(Length(ending)));
  if (leeway < 0) throw RuntimeError("expected leeway >= 0");
  if (size <= length + leeway) return self;
  const std::vector<std::string_view> characters = Characters(RequireString(args, 0, "truncate"));
  std::string out;
  for (int64_t i = 0; i < kept; ++i) out += characters[i];
  if (!kill_words || !kill_words->Truthy()) out = out.substr(0, out.rfind(' '));
  return Value(out + ending);
}

Value FileSizeFormat(const Args& args) {
  const Value* binary = args.Find(1, "binary");
  const bool by_1024 = binary && binary->Truthy();
  if (Self(args).IsNone() || Self(args).AsSequence() || Self(args).AsDict()) {
    throw RuntimeError("filesizeformat needs a number, not " + Self(args).TypeName());
  }
  const Value number = FindFilter("float")({{Self(args), Value()}, {}});
  if (!number.IsFloat()) throw RuntimeError("could not convert string to float");
  const double base = by_1024 ? 1024 : 1000, bytes = number.AsDouble();
  if (bytes == 1) return Value("1 Byte");
  if (bytes < base) return Value(ToString(FindFilter("int")({{number}, {}})) + " Bytes");
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t i = 0;
  while (i + 1 < kPrefixes.size() && bytes >= unit * base) unit *= base, ++i;
  char text[400];
  std::snprintf(text, sizeof(text), "%.1f ", bytes / unit);
  const char prefix = by_1024 && i == 0 ? 'K' : kPrefixes[i];
  return Value(std::string(text) + prefix + (by_1024 ? "iB" : "B"));
}

std::string UrlQuoted(const Value& value, bool for_query) {
  std::string out;
  for (const char c : ToString(value)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos;
    char escaped[4];
    std::snprintf(escaped, sizeof(escaped), "%%%02X", byte);
    if (plain || (c == '/' && !for_query)) {
      out += c;
    } else {
      out += c == ' ' && for_query ? "+" : escaped;
    }
  }
  return out;
}

// A text, or the pairs of a query.
Value UrlEncode(const Args& args) {
  const Value& self = Self(args);
  if (self.AsString() || !IsIterable(self)) return Value(UrlQuoted(self, false));
  std::string out;
  const auto add = [&](const Value& key, const Value& value) {
    out += (out.empty() ? "" : "&") + UrlQuoted(key, true) + "=" + UrlQuoted(value, true);
  };
  if (const Dict* dict = self.AsDict()) {
    for (const auto& [key, value] : dict->items) add(key, value);
    return Value(std::move(out));
  }
  for (const Value& item : Iterate(self)) {
    const List pair = Iterate(item);
    if (pair.size() != 2) throw RuntimeError("urlencode needs pairs of a key and a value");
    add(pair[0], pair[1]);
  }
  return Value(std::move(out));
}

Value XmlAttr(const Args& args) {
  const Value* autospace = args.Find(1, "autospace");
  const Dict* dict = Self(args).AsDict();
  if (dict == nullptr) throw RuntimeError("xmlattr needs a dict, not " + Self(args).TypeName());
  std::string out;
  for (const auto& [key, value] : dict->items) {
    if (value.IsNone() || value.IsUndefined()) continue;
    const std::string& name = RequireString({{key}, {}}, 0, "xmlattr");
    for (const std::string_view c : Characters(name)) {
      const char* p = c.data();
      if (IsPythonSpace(unicode::NextCodePoint(p)) || c == "/" || c == ">" || c == "=") {
        throw RuntimeError("Invalid character in attribute name: " + Repr(key));
      }
    }
    out += (out.empty() ? "" : " ") + *EscapeMarkup(key).AsString() + "=\"" +
           *EscapeMarkup(value).AsString() + "\"";
  }
  if (!out.empty() && (!autospace || autospace->Truthy())) out = " " + out;
  return Value(std::move(out));
}

// `text` without what stands from `open` to `close`.
std::string Without(std::string text, std::string_view open, std::string_view close) {
  for (size_t at; (at = text.find(open)) != std::string::npos;) {
    const size_t end = text.find(close, at);
    if (end == std::string::npos) break;
    Meter::Work(text.size() / 64 + 1);
    text.erase(at, end + close.size() - at);
  }
  return text;
}

// html.unescape, for the entities that `escape` makes and a few more.
std::string Unescaped(const std::string& text) {
  static constexpr std::pair<std::string_view, char> kEntities[] = {
      {"&amp;", '&'}, {"&lt;", '<'},   {"&gt;", '>'},
      {"&#34;", '"'}, {"&#39;", '\''}, {"&quot;", '"'}};
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '&') {
      out += text[i++];
      continue;
    }
    const auto entity =
        std::find_if(std::begin(kEntities), std::end(kEntities),
                     [&](const auto& e) { return text.compare(i, e.first.size(), e.first) == 0; });
    if (entity != std::end(kEntities)) {
      out += entity->second;
      i += entity->first.size();
    } else if (i + 1 == text.size() ||
               std::string_view(" <&;").find(text[i + 1]) != std::string_view::npos) {
      out += text[i++];
    } else {
      throw Unsupported("striptags of a text with '" + text.substr(i, 12) + "'");
    }
  }
  return out;
}

Value StripTags(const Args& args) {
  const std::string text = Without(Without(ToString(Self(args)), "<!--", "-->"), "<", ">");
  std::string out;
  for (const Value& word : SplitOnSpaces(text, -1, false)) {
    out += (out.empty() ? "" : " ") + *word.AsString();
  }
  return Value::MakeMarkup(Unescaped(out));
}

constexpr Named kLayoutFilters[] = {
    {"center", CenterFilter},
    {"indent", Indent},
    {"truncate", Truncate},
    {"filesizeformat", FileSizeFormat},
    {"urlencode", UrlEncode},
    {"xmlattr", XmlAttr},
    {"striptags", StripTags},
    {"escape", [](const Args& a) { return EscapeMarkup(Self(a)); }},
    {"e", [](const Args& a) { return EscapeMarkup(Self(a)); }},
    {"forceescape", [](const Args& a) { return EscapeMarkup(Value(ToString(Self(a)))); }},
    {"safe", [](const Args& a) { return Value::MakeMarkup(ToString(Self(a))); }},
};

}  // namespace

Value EscapeMarkup(const Value& value) {
  if (value.IsMarkup()) return value;
  std::string out;
  for (const char c : ToString(value)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return Value::MakeMarkup(std::move(out));
}

Builtin FindLayoutFilter(std::string_view name) {
  return FindIn(kLayoutFilters, name);
}

}  // namespace liger::trainer::jinja
