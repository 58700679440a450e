// Regular expressions mean what they mean to PyPI's `tokenizers`: classes over all code points
// (tools/fixtures/unicode_tables.py), pieces of texts (regex_fixtures.py).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/code_point_set.h"
#include "worker/trainer/text/pattern.h"
#include "worker/trainer/text/pre_tokenizer.h"
#include "worker/trainer/text/regex_source.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

constexpr char32_t kBeyond = 0x110000;

std::unique_ptr<Pattern> Compile(const std::string& regex) {
  static const json none;
  return MakePcrePattern(regex, ConfigNode(none, "tokenizer.json", "regex"));
}

// Every code point but surrogates, in order.
const std::string& AllCharacters() {
  static const std::string* all = [] {
    auto* text = new std::string;
    for (char32_t c = 0; c < kBeyond; ++c) {
      if (c < 0xD800 || c > 0xDFFF) unicode::AppendUtf8(c, text);
    }
    return text;
  }();
  return *all;
}

// FNV-1a over the first and last code points of the runs that are found in AllCharacters.
class RunDigest {
 public:
  void Add(std::string_view run) {
    const char* first = run.data();
    const char* last = first + run.size();
    const char32_t begin = unicode::NextCodePoint(first), end = unicode::PreviousCodePoint(last);
    // Python's runs do not go over the surrogates.
    if (begin <= 0xD7FF && end >= 0xE000) {
      Mix(begin), Mix(0xD7FF), Mix(0xE000), Mix(end);
    } else {
      Mix(begin), Mix(end);
    }
  }
  std::string Text() const {
    char hex[17];
    std::snprintf(hex, sizeof(hex), "%016lx", static_cast<unsigned long>(value_));
    return hex;
  }

 private:
  void Mix(char32_t c) { value_ = (value_ ^ c) * 0x100000001B3u; }
  uint64_t value_ = 0xCBF29CE484222325u;
};

// The members of a class as Oniguruma has it; nullopt: the expression is more than a class.
std::optional<CodePointSet> ClassOf(const std::string& regex) {
  static const json none;
  RegexSource source(regex, ConfigNode(none, "tokenizer.json", "regex"));
  std::optional<CodePointSet> set;
  if (source.Accept("[")) {
    set = source.TakeBracketClass(/*ignore_case=*/false);
  } else if (source.Accept("\\")) {
    set = source.TakeClassEscape(/*in_bracket=*/false);
  }
  return source.done() ? set : std::nullopt;
}

std::string DigestOf(const CodePointSet& set) {
  RunDigest digest;
  for (const CodePointSet::Run& run : set.runs()) {
    std::string ends;
    unicode::AppendUtf8(run.first, &ends);
    unicode::AppendUtf8(run.last, &ends);
    digest.Add(ends);
  }
  return digest.Text();
}

// That PCRE2 finds the members of the set: at both sides of all borders, and here and there.
void ExpectMatches(const std::string& regex, const CodePointSet& set) {
  std::vector<char32_t> asked;
  for (char32_t c = 0; c < kBeyond; c += 331) asked.push_back(c);
  for (const CodePointSet::Run& run : set.runs()) {
    asked.insert(asked.end(), {run.first, run.last});
    asked.push_back(run.first - 1);
    asked.push_back(run.last + 1);
  }
  std::string text;
  std::vector<bool> expected;  // by byte
  for (const char32_t c : asked) {
    if (c >= kBeyond || (c >= 0xD800 && c <= 0xDFFF)) continue;
    unicode::AppendUtf8(c, &text);
    expected.resize(text.size(), set.Has(c));
  }
  std::vector<MatchSpan> spans;
  Compile("(?:" + regex + ")+")->Find(text, &spans);
  std::vector<bool> found(text.size());
  for (const MatchSpan& span : spans) {
    std::fill(found.begin() + span.begin, found.begin() + span.end, span.is_match);
  }
  EXPECT_TRUE(found == expected) << regex;
}

// Of any expression that matches one character, over all.
std::string DigestOf(const std::string& regex) {
  std::vector<MatchSpan> spans;
  Compile("(?:" + regex + ")+")->Find(AllCharacters(), &spans);
  RunDigest digest;
  for (const MatchSpan& span : spans) {
    if (!span.is_match || span.begin == span.end) continue;
    digest.Add(std::string_view(AllCharacters()).substr(span.begin, span.end - span.begin));
  }
  return digest.Text();
}

// Of what the pre-tokenizer removes.
std::string DigestOfSplit(const json& config) {
  PreTokenized pieces(AllCharacters(), true);
  MakePreTokenizer(ConfigNode(config, "tokenizer.json", "pre_tokenizer"))->Apply(&pieces);
  RunDigest digest;
  const char* done = AllCharacters().data();
  const auto removed = [&](const char* until) {
    if (until > done) digest.Add(std::string_view(done, until - done));
  };
  for (const PreTokenized::Piece& piece : pieces.pieces()) {
    removed(piece.text.data());
    done = piece.text.data() + piece.text.size();
  }
  removed(AllCharacters().data() + AllCharacters().size());
  return digest.Text();
}

TEST(RegexTest, ClassesHaveTheCodePointsThatTokenizersHasInThem) {
  const json golden = json::parse(ReadAll(GoldenDir() + "/regex_classes.json"));
  for (const auto& [regex, digest] : golden.items()) {
    if (regex[0] == '!') continue;
    const std::optional<CodePointSet> set = ClassOf(regex);
    EXPECT_EQ(set ? DigestOf(*set) : DigestOf(regex), digest) << regex;
    if (set) ExpectMatches(regex, *set);
  }
  EXPECT_EQ(DigestOfSplit({{"type", "Punctuation"}, {"behavior", "Removed"}}),
            golden["!punctuation"]);
  EXPECT_EQ(DigestOfSplit({{"type", "WhitespaceSplit"}}), golden["!space"]);
  // Digits keeps what it cuts at.
  EXPECT_EQ(DigestOf(BuiltInSet("!digits")), golden["!digits"]);
}

TEST(RegexTest, PiecesAreThoseOfTokenizers) {
  const json golden = json::parse(ReadAll(GoldenDir() + "/regex_pieces.json"));
  const json& texts = golden[0];
  size_t refused = 0;
  for (size_t row = 1; row < golden.size(); ++row) {
    const std::string regex = golden[row]["regex"];
    std::unique_ptr<Pattern> pattern;
    try {
      pattern = Compile(regex);
    } catch (const TrainerError& e) {
      // Some random ones are beyond what can be mirrored.
      EXPECT_THAT(e.what(), testing::HasSubstr("where case is ignored")) << regex;
      ++refused;
      continue;
    }
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::string text = texts[i];
      std::vector<MatchSpan> spans;
      try {
        pattern->Find(text, &spans);
      } catch (const TrainerError& e) {  // PCRE2 counts its steps otherwise
        EXPECT_THAT(e.what(), testing::HasSubstr("match limit")) << regex;
        ++refused;
        break;
      }
      json pieces = json::array();
      for (const MatchSpan& span : spans) {
        if (span.begin < span.end) pieces.push_back(text.substr(span.begin, span.end - span.begin));
      }
      EXPECT_EQ(pieces, golden[row]["pieces"][i]) << regex << " in " << texts[i];
    }
  }
  EXPECT_LT(refused, golden.size() / 10);
}

TEST(RegexTest, WhatCannotBeMirroredIsRefusedByName) {
  const auto error = [](const std::string& regex) -> std::string {
    try {
      Compile(regex);
    } catch (const TrainerError& e) {
      return e.what();
    }
    return "none";
  };
  const std::pair<const char*, const char*> cases[] = {
      {R"(\p{Bidi_Control})", R"(\p{Bidi_Control})"},
      {R"(\pL)", R"(\p without {)"},
      {R"(\p{L)", R"(an open \p{)"},
      {R"(\X)", R"(\X)"},
      {R"(a\K)", R"(\K)"},
      {R"(\G)", R"(\G)"},
      {R"(\k<a>)", R"(\k)"},
      {R"((?<a>x)\g<a>)", R"(\g)"},
      {R"(\xe9)", "a byte beyond ASCII"},
      {R"(\x{110000})", "no character"},
      {R"(\u12)", R"(\u without four)"},
      {R"((?P<a>b))", "(?P"},
      {R"((?s:.))", "(?s"},
      {R"((?x: a))", "(?x"},
      {R"(a(?i)b)", "(?)"},
      {R"((?(1)a|b))", "(?("},
      {R"((?~a))", "(?~"},
      {R"((*FAIL))", "a callout"},
      {R"((?i:größe))", "a letter beyond ASCII"},
      {R"((?i:miss))", "letters that may be one character"},
      {R"((?i:[à-ü]))", "a class with letters beyond ASCII"},
      {R"([]a])", "a class that begins with ]"},
      {R"([a)", "an open class"},
      {R"([\w-x])", "a hyphen behind a class"},
      {R"([a-\d])", "a range that ends with a class"},
      {R"([b-a])", "ends before it begins"},
      {R"([a-c-e])", "a hyphen between"},
      {R"([[:foo:]])", "the POSIX class [:foo:]"},
      {R"([&&a])", "the class intersection"},
      {R"(+a)", "a repeat of nothing"},
      {R"(a**)", "a repeat of nothing"},
      {R"(^*)", "a repeat of nothing"},
      {R"(a{2,1})", "a repeat of more than its most"},
      {R"(a{1000000})", "a repeat of so many"},
      {R"((a)", "an open group"},
      {R"(a))", "without its ("},
      {R"(\1)", R"(the reference \1)"},
      {R"((?<a>b)(c)\1)", R"(the reference \1)"},
      {"a\\", "a backslash at its end"},
  };
  for (const auto& [regex, what] : cases) {
    EXPECT_THAT(error(regex), testing::HasSubstr(what)) << regex;
    EXPECT_THAT(error(regex), testing::StartsWith("tokenizer.json: regex has")) << regex;
  }
  EXPECT_THAT(error(std::string(100000, '[')), testing::HasSubstr("is longer than 64 KiB"));
  EXPECT_THAT(error(std::string(60000, '[')), testing::HasSubstr("too many classes"));
  EXPECT_THAT(error(std::string(60000, '(')), testing::HasSubstr("too many groups"));
}

}  // namespace
}  // namespace liger::trainer
