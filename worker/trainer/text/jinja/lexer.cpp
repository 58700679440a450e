#include "worker/trainer/text/jinja/lexer.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string_view>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

// All line ends become \n, and one at the very end goes.
std::string NormalizeNewlines(const std::string& source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsNameStart(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }

class Lexer {
 public:
  explicit Lexer(const std::string& source) : text_(NormalizeNewlines(source)) {}

  std::vector<Token> Run() {
    while (at_ < text_.size()) Outside();
    Emit(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw TemplateError(TemplateError::Kind::kSyntax, line_, what);
  }

  void Emit(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }

  bool At(std::string_view s) const { return text_.compare(at_, s.size(), s) == 0; }

  void Advance(size_t n) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<int64_t>(at_),
                                         text_.begin() + static_cast<int64_t>(at_ + n), '\n'));
    at_ += n;
  }

  void SkipSpaces() {
    size_t n = 0;
    const char* const end = text_.data() + text_.size();
    for (const char* p = text_.data() + at_; p < end;) {
      const char* q = p;
      if (!IsPythonSpace(unicode::NextCodePoint(q))) break;
      p = q;
      n = static_cast<size_t>(p - (text_.data() + at_));
    }
    Advance(n);
  }

  // Data up to the next tag, then the tag.
  void Outside() {
    size_t tag = at_;
    while (tag < text_.size() &&
           !(text_[tag] == '{' && tag + 1 < text_.size() &&
             std::string_view("{%#").find(text_[tag + 1]) != std::string_view::npos)) {
      ++tag;
    }
    std::string data = text_.substr(at_, tag - at_);
    if (tag == text_.size()) {
      EmitData(std::move(data), tag);
      return;
    }
    const char kind = text_[tag + 1];
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
    if (sign == '-') {
      data = Strip(data, nullptr, false, true);
    } else if (sign != '+' && kind != '{') {
      StripLine(&data);
    }
    EmitData(std::move(data), tag);
    Advance(sign == '-' || sign == '+' ? 3 : 2);
    if (kind == '#') {
      Comment();
    } else if (kind == '{') {
      Inside(TokenType::kVariableBegin, TokenType::kVariableEnd, "}}");
    } else if (!Raw()) {
      Inside(TokenType::kBlockBegin, TokenType::kBlockEnd, "%}");
    }
  }

  void EmitData(std::string data, size_t tag) {
    if (!data.empty()) Emit(TokenType::kData, std::move(data));
    if (tag > at_) line_starting_ = text_[tag - 1] == '\n';
    Advance(tag - at_);
  }

  // lstrip_blocks: a tag that is first on its line takes the spaces before it.
  void StripLine(std::string* data) const {
    const size_t newline = data->rfind('\n');
    if (newline == std::string::npos && !line_starting_) return;
    const size_t begin = newline == std::string::npos ? 0 : newline + 1;
    if (Strip(data->substr(begin), nullptr, true, true).empty()) data->resize(begin);
  }

  // The sign and closing delimiter of a block or comment, and what they take
  // with them: -%} all spaces, %} one newline (trim_blocks), +%} nothing.
  bool TryEnd(std::string_view close, bool trims_newline) {
    const bool minus = text_[at_] == '-', plus = trims_newline && text_[at_] == '+';
    if (text_.compare(at_ + (minus || plus), close.size(), close) != 0) return false;
    Advance(close.size() + (minus || plus));
    if (minus) {
      SkipSpaces();
    } else if (!plus && trims_newline && at_ < text_.size() && text_[at_] == '\n') {
      Advance(1);
    }
    line_starting_ = text_[at_ - 1] == '\n';
    return true;
  }

  void Comment() {
    const int begun = line_;
    while (at_ < text_.size()) {
      if (TryEnd("#}", true)) return;
      Advance(1);
    }
    line_ = begun;
    Fail("the comment is not closed");
  }

  // Behind `p`, over spaces, `word` and more spaces; npos where something else stands.
  size_t SkipWord(size_t p, std::string_view word) const {
    const auto skip = [&] {
      while (p < text_.size() && std::isspace(static_cast<unsigned char>(text_[p]))) ++p;
    };
    skip();
    if (text_.compare(p, word.size(), word) != 0) return std::string::npos;
    p += word.size();
    skip();
    return p;
  }

  // {% raw %}...{% endraw %}: its inside is data. Unlike other tags, {% raw %} keeps the line break
  // behind it.
  bool Raw() {
    const size_t end = SkipWord(at_, "raw");
    if (end == std::string::npos) return false;
    const bool minus = text_.compare(end, 3, "-%}") == 0;
    if (!minus && text_.compare(end, 2, "%}") != 0) return false;
    const int begun = line_;
    Advance(end - at_ + (minus ? 3 : 2));
    if (minus) SkipSpaces();
    line_starting_ = text_[at_ - 1] == '\n';
    for (size_t tag = at_; (tag = text_.find("{%", tag)) != std::string::npos; tag += 2) {
      const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
      const bool has_sign = sign == '-' || sign == '+';
      const size_t close = SkipWord(tag + (has_sign ? 3 : 2), "endraw");
      if (close == std::string::npos) continue;
      const bool signed_close =
          text_.compare(close, 3, "-%}") == 0 || text_.compare(close, 3, "+%}") == 0;
      if (!signed_close && text_.compare(close, 2, "%}") != 0) continue;
      std::string data = text_.substr(at_, tag - at_);
      if (sign == '-') {
        data = Strip(data, nullptr, false, true);
      } else if (sign != '+') {
        StripLine(&data);
      }
      EmitData(std::move(data), tag);
      Advance(close - at_);
      TryEnd("%}", true);
      return true;
    }
    line_ = begun;
    Fail("{% endraw %} is missing");
  }

  void Inside(TokenType begin, TokenType end, std::string_view close) {
    const int begun = line_;
    Emit(begin, "");
    std::string open;  // brackets that wait to be closed
    while (at_ < text_.size()) {
      if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
        Advance(1);
      } else if (open.empty() && TryEnd(close, end == TokenType::kBlockEnd)) {
        Emit(end, "");
        return;
      } else {
        ReadToken(&open);
      }
    }
    line_ = begun;
    Fail("the tag is not closed");
  }

  void ReadToken(std::string* open) {
    const char c = text_[at_];
    if (IsNameStart(c)) {
      size_t end = at_;
      while (end < text_.size() && IsNamePart(text_[end])) ++end;
      EmitText(TokenType::kName, end);
    } else if (IsDigit(c)) {
      Number();
    } else if (c == '"' || c == '\'') {
      String(c);
    } else {
      Operator(open);
    }
  }

  void EmitText(TokenType type, size_t end) {
    Emit(type, text_.substr(at_, end - at_));
    Advance(end - at_);
  }

  // Behind the digits at `at`, with single underscores between them.
  size_t SkipDigits(size_t at, std::string_view digits) const {
    const auto is_digit = [&](size_t i) {
      return i < text_.size() && digits.find(text_[i]) != std::string_view::npos;
    };
    while (is_digit(at) || (text_[at] == '_' && is_digit(at + 1))) ++at;
    return at;
  }

  // Jinja's expressions of numbers: 0x1f, 0b1, 0o7, 1_000, 1.5e3; 012 is two of them.
  void Number() {
    static constexpr std::string_view kDecimal = "0123456789";
    const size_t whole = SkipDigits(at_, kDecimal);
    size_t end = whole;
    const bool after_point = at_ > 0 && text_[at_ - 1] == '.';
    if (!after_point && text_[end] == '.' && IsDigit(text_[end + 1])) {
      end = SkipDigits(end + 1, kDecimal);
    }
    if (!after_point && (text_[end] | 0x20) == 'e') {
      const size_t p = end + (text_[end + 1] == '+' || text_[end + 1] == '-' ? 2 : 1);
      if (p < text_.size() && IsDigit(text_[p])) end = SkipDigits(p, kDecimal);
    }
    const bool is_float = end > whole;
    int base = 10;
    if (!is_float && text_[at_] == '0') {
      const char letter = static_cast<char>(text_[at_ + 1] | 0x20);
      base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
      const std::string_view digits = base == 16  ? "0123456789abcdefABCDEF"
                                      : base == 8 ? "01234567"
                                      : base == 2 ? "01"
                                                  : "0";
      const size_t begin = base == 10 ? at_ : at_ + 2;
      end = text_[begin] == '_' ? SkipDigits(begin + 1, digits) : SkipDigits(begin, digits);
      if (base != 10 && (end == begin || text_[end - 1] == '_')) base = 10, end = at_ + 1;
    }
    std::string number = text_.substr(at_, end - at_);
    std::erase(number, '_');
    if (number.size() > 300) Fail("the number is too large");
    if (base != 10) number = Decimal(number.substr(2), base);
    Emit(is_float ? TokenType::kFloat : TokenType::kInteger, number);
    Advance(end - at_);
  }

  std::string Decimal(const std::string& digits, int base) const {
    uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc()) {
      throw Unsupported("an integer beyond 64 bits to base " + std::to_string(base), line_);
    }
    return std::to_string(value);
  }

  void String(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) Fail("the string is not closed");
    Emit(TokenType::kString, Unescape(text_.substr(at_ + 1, end - at_ - 1)));
    Advance(end + 1 - at_);
  }

  // Python's escapes; an unknown one keeps its backslash.
  std::string Unescape(const std::string& s) const {
    static constexpr std::string_view kFrom = "abfnrtv\\'\"", kTo = "\a\b\f\n\r\t\v\\'\"";
    std::string out;
    for (size_t i = 0; i < s.size(); ++i) {
      if (s[i] != '\\' || i + 1 == s.size()) {
        out += s[i];
        continue;
      }
      const char c = s[++i];
      const size_t simple = kFrom.find(c);
      const size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
      if (c == '\n') continue;
      if (c == 'N') throw Unsupported("the escape \\N{...} in a string", line_);
      if (simple != std::string_view::npos) {
        out += kTo[simple];
      } else if (hex > 0) {
        unicode::AppendUtf8(HexDigits(s.substr(i + 1, hex), hex), &out);
        i += hex;
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        size_t n = 0;
        while (n < 3 && i + n < s.size() && s[i + n] >= '0' && s[i + n] <= '7') {
          value = value * 8 + static_cast<char32_t>(s[i + n++] - '0');
        }
        unicode::AppendUtf8(value, &out);
        i += n - 1;
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  char32_t HexDigits(const std::string& digits, size_t n) const {
    if (digits.size() != n ||
        digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      Fail("the string has a malformed escape");
    }
    const auto value = static_cast<char32_t>(std::stoul(digits, nullptr, 16));
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      Fail("the string has an escape that is no character");
    }
    return value;
  }

  void Operator(std::string* open) {
    for (const std::string_view two : {"**", "//", "==", "!=", ">=", "<="}) {
      if (At(two)) return EmitText(TokenType::kOperator, at_ + 2);
    }
    const char c = text_[at_];
    if (std::string_view("+-*/%~<>=.:|,()[]{}").find(c) == std::string_view::npos) {
      Fail(std::string("unexpected character '") + c + "'");
    }
    if (c == '(' || c == '[' || c == '{') {
      open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open->empty() || open->back() != c) Fail(std::string("unexpected '") + c + "'");
      open->pop_back();
    }
    EmitText(TokenType::kOperator, at_ + 1);
  }

  const std::string text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(const std::string& source) { return Lexer(source).Run(); }

}  // namespace liger::trainer::jinja
