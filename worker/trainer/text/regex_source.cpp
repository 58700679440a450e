#include "worker/trainer/text/regex_source.h"

#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

// Classes inside of classes.
constexpr int kMaxDepth = 50;

bool IsHex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

CodePointSet Property(const char* name) { return *FindCharacterProperty(name); }

// The members with what differs from them in case only, as Oniguruma closes a class.
CodePointSet CloseUnderCase(const CodePointSet& set, const RegexSource& source) {
  static const CodePointSet* beyond_ascii =
      new CodePointSet((Property("l") | Property("m") | Property("nl") | Property("so")) -
                       CodePointSet::Of(0, 0x7F));
  if (!(set & *beyond_ascii).empty()) {
    source.Refuse("a class with letters beyond ASCII where case is ignored");
  }
  CodePointSet closed = set;
  for (char32_t c = 'a'; c <= 'z'; ++c) {
    if (!set.Has(c) && !set.Has(c - 32)) continue;
    closed = closed | CodePointSet::Of(c, c) | CodePointSet::Of(c - 32, c - 32);
    if (c == 's') closed = closed | CodePointSet::Of(0x17F, 0x17F);
    if (c == 'k') closed = closed | CodePointSet::Of(0x212A, 0x212A);
  }
  return closed;
}

}  // namespace

bool RegexSource::Accept(std::string_view text) {
  if (!Next(text)) return false;
  at_ += text.size();
  return true;
}

char32_t RegexSource::TakeChar() {
  if (done()) Refuse("an end in the middle");
  const char* p = regex_.data() + at_;
  const char32_t c = unicode::NextCodePoint(p);
  at_ = p - regex_.data();
  return c;
}

std::string RegexSource::TakeUntil(std::string_view end, const char* what) {
  const size_t found = regex_.find(end, at_);
  if (found == std::string::npos) Refuse(what);
  std::string taken = regex_.substr(at_, found - at_);
  at_ = found + end.size();
  return taken;
}

std::optional<CodePointSet> RegexSource::TakeClassEscape(bool in_bracket) {
  const char c = Peek();
  const bool opposite = c >= 'A' && c <= 'Z';
  CodePointSet set;
  switch (opposite ? c + 32 : c) {
    case 'w':
      set = BuiltInSet(in_bracket ? "[:word:]" : "\\w");
      break;
    case 'd':
      set = Property("nd");
      break;
    case 's':
      set = BuiltInSet("\\s");
      break;
    case 'h':
      set = Property("xdigit");
      break;
    case 'p':
      Skip(1);
      return TakeProperty(opposite);
    default:
      return std::nullopt;
  }
  Skip(1);
  return opposite ? ~set : set;
}

CodePointSet RegexSource::TakeProperty(bool opposite) {
  if (!Accept("{")) Refuse("\\p without {");
  if (Accept("^")) opposite = !opposite;
  const std::string name = TakeUntil("}", "an open \\p{");
  const std::optional<CodePointSet> set = FindCharacterProperty(name);
  if (!set) Refuse("the character property \\p{" + name + "}");
  return opposite ? ~*set : *set;
}

char32_t RegexSource::TakeHex(size_t most) {
  char32_t value = 0;
  size_t digits = 0;
  for (; digits < most && IsHex(Peek()); ++digits, Skip(1)) {
    const char c = Peek();
    value = value * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  if (digits == 0) Refuse("an escape without hexadecimal digits");
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) Refuse("no character");
  return value;
}

char32_t RegexSource::TakeCharEscape(bool in_bracket) {
  if (done()) Refuse("a backslash at its end");
  const char c = Peek();
  const bool plain = static_cast<unsigned char>(c) >= 0x80 ||
                     !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
  if (plain) return TakeChar();
  Skip(1);
  switch (c) {
    case 't':
      return '\t';
    case 'n':
      return '\n';
    case 'v':
      return '\v';
    case 'f':
      return '\f';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'e':
      return 0x1B;
    case 'b':
      if (in_bracket) return '\b';
      break;
    case 'u': {
      const size_t start = at_;
      const char32_t value = TakeHex(4);
      if (at_ - start != 4) Refuse("\\u without four hexadecimal digits");
      return value;
    }
    case 'x': {
      if (Accept("{")) {
        const char32_t value = TakeHex(8);
        if (!Accept("}")) Refuse("an open \\x{");
        return value;
      }
      const char32_t value = TakeHex(2);
      if (value >= 0x80) Refuse("a byte beyond ASCII (\\x)");  // not the code point
      return value;
    }
    default:
      break;
  }
  --at_;
  Refuse(std::string("\\") + c);
}

CodePointSet RegexSource::TakePosixClass() {
  const bool opposite = Accept("^");
  const std::string name = TakeUntil(":]", "an open POSIX class");
  for (const char* known : {"alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print",
                            "space", "upper", "xdigit", "ascii"}) {
    if (name == known) return opposite ? ~Property(known) : Property(known);
  }
  // These differ from the properties of those names.
  for (const char* known : {"[:punct:]", "[:word:]"}) {
    if ("[:" + name + ":]" == known) return opposite ? ~BuiltInSet(known) : BuiltInSet(known);
  }
  Refuse("the POSIX class [:" + name + ":]");
}

CodePointSet RegexSource::TakeBracketItem(bool* is_char, char32_t* c) {
  *is_char = false;
  if (Accept("[:")) return TakePosixClass();
  if (!Accept("\\")) {
    *is_char = true;
    *c = TakeChar();
    return CodePointSet::Of(*c, *c);
  }
  if (std::optional<CodePointSet> set = TakeClassEscape(/*in_bracket=*/true)) return *set;
  *is_char = true;
  *c = TakeCharEscape(/*in_bracket=*/true);
  return CodePointSet::Of(*c, *c);
}

CodePointSet RegexSource::TakeBracketClass(bool ignore_case, int depth) {
  if (depth > kMaxDepth) Refuse("too many classes inside of classes");
  const bool opposite = Accept("^");
  if (Next("]")) Refuse("a class that begins with ]");
  CodePointSet set, both;
  bool intersects = false, is_empty = true;
  while (!Accept("]")) {
    if (done()) Refuse("an open class");
    if (Next("&&")) {
      if (is_empty || ignore_case) Refuse("the class intersection && here");
      Skip(2);
      both = intersects ? both & set : set;
      set = {};
      intersects = is_empty = true;
      continue;
    }
    // What reads as a hyphen depends on more than Oniguruma's manual says.
    if (Next("-") && !is_empty && Peek(1) != ']') Refuse("a hyphen between classes or ranges");
    if (Next("[") && !Next("[:")) {
      if (ignore_case) Refuse("a class inside a class where case is ignored");
      Skip(1);
      set = set | TakeBracketClass(false, depth + 1);
      is_empty = false;
      continue;
    }
    bool is_char = false;
    char32_t first = 0, last = 0;
    const CodePointSet item = TakeBracketItem(&is_char, &first);
    is_empty = false;
    set = set | item;
    if (!Next("-") || Peek(1) == ']') continue;
    if (!is_char) Refuse("a hyphen behind a class");
    Skip(1);
    if (Next("[") || Next("&&")) Refuse("a range that ends with a class");
    TakeBracketItem(&is_char, &last);
    if (!is_char) Refuse("a range that ends with a class");
    if (last < first) Refuse("a range that ends before it begins");
    set = set | CodePointSet::Of(first, last);
  }
  if (intersects && is_empty) Refuse("the class intersection && with nothing");
  if (intersects) set = both & set;
  if (ignore_case) set = CloseUnderCase(set, *this);
  return opposite ? ~set : set;
}

void RegexSource::Refuse(const std::string& what) const {
  node_.Fail("has " + what + " at byte " + std::to_string(at_ + 1) + ", which is not implemented");
}

}  // namespace liger::trainer
