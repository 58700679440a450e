#include "worker/trainer/text/regex_translator.h"

#include <optional>
#include <vector>

#include "worker/trainer/text/code_point_set.h"
#include "worker/trainer/text/regex_source.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

constexpr size_t kMaxGroups = 1000;

// Two letters that Oniguruma also finds as one character where it ignores case (\u00DF, \uFB06).
bool MakeOneCharacter(char32_t a, char32_t b) {
  const auto lower = [](char32_t c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; };
  const std::u32string pair = {lower(a), lower(b)};
  return pair == U"ss" || pair == U"ff" || pair == U"fi" || pair == U"fl" || pair == U"st";
}

bool IsCased(char32_t c) {
  static const CodePointSet* cased = new CodePointSet(
      (*FindCharacterProperty("l") | *FindCharacterProperty("m") | *FindCharacterProperty("n") |
       *FindCharacterProperty("so")) -
      CodePointSet::Of(0, 0x7F));
  return cased->Has(c);
}

class Translator {
 public:
  Translator(const std::string& regex, const ConfigNode& node) : source_(regex, node) {}

  std::string Translate() {
    groups_.push_back({});
    while (!source_.done()) Part();
    if (groups_.size() > 1) source_.Refuse("an open group");
    return std::move(out_);
  }

 private:
  struct Group {
    size_t begin = 0;  // in out_
    bool ignore_case = false, dot_is_all = false;
    bool looks_around = false;
  };

  Group& group() { return groups_.back(); }

  void Part() {
    const char c = source_.Peek();
    switch (c) {
      case '\\':
        source_.Skip(1);
        return Escape();
      case '[':
        source_.Skip(1);
        return Class(source_.TakeBracketClass(group().ignore_case));
      case '(':
        source_.Skip(1);
        return Open();
      case ')':
        source_.Skip(1);
        return Close();
      case '*':
      case '+':
      case '?':
        return Repeat(std::string(1, c));
      case '{':
        return Brace();
      case '.':
        source_.Skip(1);
        return Atom(group().dot_is_all ? "[\\x{0}-\\x{10FFFF}]" : "[^\\n]");
      case '|':
      case '^':
      case '$':
        source_.Skip(1);
        out_ += c;
        atom_.reset();
        last_literal_ = 0;
        return;
      default:
        return Literal(source_.TakeChar());
    }
  }

  void Atom(const std::string& text) {
    atom_ = out_.size();
    out_ += text;
    last_literal_ = 0;
  }

  // Not to be closed under case: that has been done, or Oniguruma does not.
  void Class(const CodePointSet& set) {
    const std::string bracket = "[" + PcreClassOf(set) + "]";
    Atom(group().ignore_case ? "(?-i:" + bracket + ")" : bracket);
  }

  void Literal(char32_t c) {
    if (group().ignore_case) {
      if (IsCased(c)) source_.Refuse("a letter beyond ASCII where case is ignored");
      if (MakeOneCharacter(last_literal_, c)) {
        source_.Refuse("letters that may be one character where case is ignored");
      }
    }
    const bool is_word = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    std::string text = c < 0x80 && c > ' ' && !is_word ? "\\" : "";
    unicode::AppendUtf8(c, &text);
    Atom(text);
    last_literal_ = c;
  }

  void Anchor(const char* text) {
    out_ += text;
    atom_.reset();
    last_literal_ = 0;
  }

  void Boundary(bool opposite) {
    const std::string word = "[" + PcreClassOf(BuiltInSet("\\w")) + "]";
    const std::string before = "(?<=" + word + ")", after = "(?=" + word + ")";
    const std::string not_before = "(?<!" + word + ")", not_after = "(?!" + word + ")";
    const std::string any = opposite ? before + after + "|" + not_before + not_after
                                     : before + not_after + "|" + not_before + after;
    Anchor(((group().ignore_case ? "(?-i:" : "(?:") + any + ")").c_str());
  }

  void Escape() {
    if (std::optional<CodePointSet> set = source_.TakeClassEscape(/*in_bracket=*/false)) {
      return Class(*set);
    }
    const char c = source_.Peek();
    switch (c) {
      case 'b':
      case 'B':
        source_.Skip(1);
        return Boundary(c == 'B');
      case 'A':
      case 'z':
      case 'Z':
        source_.Skip(1);
        return Anchor((std::string("\\") + c).c_str());
      case 'R':
        source_.Skip(1);
        return Atom("(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])");
      case 'N':
        source_.Skip(1);
        return Atom("[^\\n]");
      case 'O':
        source_.Skip(1);
        return Atom("[\\x{0}-\\x{10FFFF}]");
      default:
        break;
    }
    if (c >= '1' && c <= '9') return BackReference(c);
    Literal(source_.TakeCharEscape(/*in_bracket=*/false));
  }

  void BackReference(char c) {
    const char next = source_.Peek(1);
    const bool is_one_digit = next < '0' || next > '9';
    if (named_ || !is_one_digit || c - '0' > captures_) {
      source_.Refuse(std::string("the reference \\") + c);
    }
    source_.Skip(1);
    Atom(std::string("\\g{") + c + "}");
  }

  void Open() {
    Group next = {.begin = out_.size(),
                  .ignore_case = group().ignore_case,
                  .dot_is_all = group().dot_is_all};
    if (groups_.size() > kMaxGroups) source_.Refuse("too many groups inside of groups");
    last_literal_ = 0;
    if (!source_.Accept("?")) {
      if (source_.Next("*")) source_.Refuse("a callout (*");
      ++captures_;
      out_ += "(";
    } else if (source_.Accept("#")) {
      source_.TakeUntil(")", "an open comment");
      return;
    } else if (!OpenSpecial(&next)) {
      return;
    }
    atom_.reset();
    groups_.push_back(next);
  }

  // Behind "(?". False: it opens nothing.
  bool OpenSpecial(Group* next) {
    for (const char* kind : {":", ">", "=", "!", "<=", "<!"}) {
      if (!source_.Accept(kind)) continue;
      next->looks_around = kind[0] == '=' || kind[0] == '!' || kind[0] == '<';
      out_ += std::string("(?") + kind;
      return true;
    }
    if (source_.Accept("<")) {
      const std::string name = source_.TakeUntil(">", "an open name of a group");
      const bool is_name =
          !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
                                                  "WXYZ_0123456789") == std::string::npos;
      if (!is_name || (name[0] >= '0' && name[0] <= '9') || name.size() > 32) {
        source_.Refuse("the group's name <" + name + ">");
      }
      named_ = true;
      out_ += "(";
      return true;
    }
    return Options(next);
  }

  bool Options(Group* next) {
    bool on = true;
    for (;; source_.Skip(1)) {
      const char c = source_.Peek();
      if (c == '-') {
        on = false;
      } else if (c == 'i') {
        next->ignore_case = on;
      } else if (c == 'm') {
        next->dot_is_all = on;
      } else {
        break;
      }
    }
    const char* const inner = next->ignore_case ? "(?i:" : "(?-i:";
    if (source_.Accept(":")) {
      out_ += inner;
      return true;
    }
    // Elsewhere Oniguruma and PCRE2 differ in where the option ends.
    if (!source_.Next(")") || !out_.empty() || groups_.size() > 1) {
      source_.Refuse(std::string("(?") + source_.Peek());
    }
    source_.Skip(1);
    if (next->ignore_case) out_ += "(?i)";
    group().ignore_case = next->ignore_case;
    group().dot_is_all = next->dot_is_all;
    return false;
  }

  void Close() {
    if (groups_.size() == 1) source_.Refuse("a ) without its (");
    out_ += ")";
    atom_.reset();
    if (!group().looks_around) atom_ = group().begin;
    groups_.pop_back();
    last_literal_ = 0;
  }

  void Brace() {
    // "{": a count, or the character.
    size_t n = 1;
    const auto number = [&]() -> std::string {
      std::string digits;
      for (char c; c = source_.Peek(n), c >= '0' && c <= '9'; ++n) digits += c;
      return digits;
    };
    const std::string least = number();
    const bool comma = source_.Peek(n) == ',';
    if (comma) ++n;
    const std::string most = comma ? number() : least;
    const bool is_count = source_.Peek(n) == '}' && !(least.empty() && most.empty());
    if (!is_count) {
      source_.Skip(1);
      return Literal('{');
    }
    if (least.size() > 5 || most.size() > 5) source_.Refuse("a repeat of so many");
    if (!least.empty() && !most.empty() && std::stoi(least) > std::stoi(most)) {
      source_.Refuse("a repeat of more than its most");
    }
    Repeat("{" + (least.empty() ? "0" : least) + (comma ? "," + most : "") + "}", n + 1, !comma);
  }

  // `text` as PCRE2 has it; `bytes` of it in the source.
  void Repeat(const std::string& text, size_t bytes = 1, bool is_exact = false) {
    if (!atom_) source_.Refuse("a repeat of nothing that can be repeated");
    source_.Skip(bytes);
    out_ += text;
    const char c = source_.Peek();
    const bool is_count = text[0] == '{';
    if (is_count && (c == '+' || (c == '?' && is_exact))) {
      // Oniguruma repeats what was counted.
      out_.insert(*atom_, "(?:");
      out_ += std::string(")") + c;
      source_.Skip(1);
    } else if (c == '?' || c == '+') {
      out_ += c;
      source_.Skip(1);
    }
    atom_.reset();
    last_literal_ = 0;
  }

  RegexSource source_;
  std::string out_;
  std::vector<Group> groups_;
  std::optional<size_t> atom_;  // where in out_ what can be repeated begins
  char32_t last_literal_ = 0;   // if that is what comes right before
  int captures_ = 0;
  bool named_ = false;
};

}  // namespace

std::string TranslateRegex(const std::string& regex, const ConfigNode& node) {
  return Translator(regex, node).Translate();
}

}  // namespace liger::trainer
