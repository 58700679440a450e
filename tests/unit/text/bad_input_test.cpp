// Tokenizers, templates and rows that are wrong: each gives one TrainerError
// that names the file and the feature, row or line; none hangs or crashes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenize_command.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class BadInput : public testing::Test {
 protected:
  BadInput() { std::filesystem::create_directories(dir_); }
  ~BadInput() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ + "/" + name) << text;
  }

  // "message / action" of what `run` throws.
  template <typename Run>
  static std::string ErrorOf(Run run) {
    try {
      run();
    } catch (const TrainerError& error) {
      EXPECT_NE(error.failure().class_(), liger::v1::FAILURE_CLASS_UNSPECIFIED);
      return std::string(error.what()) + " / " + error.failure().action();
    }
    return "no error";
  }

  std::string LoadError() const {
    return ErrorOf([&] { Tokenizer::FromFolder(dir_); });
  }
  std::string LoadErrorOf(const std::string& tokenizer_json) const {
    Write("tokenizer.json", tokenizer_json);
    return LoadError();
  }
  static std::string RenderError(const std::string& source) {
    return ErrorOf([&] {
      ChatTemplate::FromString(source, "t.jinja", {{"eos_token", "</s>"}})
          .Render({{{"role", "user"}, {"content", "hi"}}}, true);
    });
  }

  const std::string dir_ = testing::TempDir() + "/text_bad_input_" + std::to_string(::getpid());
};

constexpr const char* kModel =
    R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})";

TEST_F(BadInput, MissingTokenizer) {
  EXPECT_THAT(LoadError(), testing::AllOf(HasSubstr("has no tokenizer.json"),
                                          HasSubstr("Copy tokenizer.json and")));
  Write("vocab.txt", "x");
  EXPECT_THAT(LoadError(), HasSubstr("vocab.txt, a format that is not implemented"));
  EXPECT_THAT(ErrorOf([] { Tokenizer::FromFolder("/nowhere"); }),
              HasSubstr("no model folder /nowhere"));
}

// The open of a pipe would wait for a writer.
TEST_F(BadInput, WhatIsNoRegularFileIsNotRead) {
  const std::string path = dir_ + "/tokenizer.json";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(LoadError(), HasSubstr("tokenizer.json: not a regular file"));
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/dev/zero", path);
  EXPECT_THAT(LoadError(), HasSubstr("tokenizer.json: not a regular file"));
}

TEST_F(BadInput, AByteOrderMarkIsNoPartOfTheFile) {
  const std::string golden = GoldenDir() + "/tokenizers/smollm2/tokenizer.json";
  EXPECT_EQ(LoadErrorOf("\xEF\xBB\xBF" + ReadAll(golden)), "no error");
  const auto original = Tokenizer::FromFolder(GoldenDir() + "/tokenizers/smollm2");
  EXPECT_EQ(Tokenizer::FromFolder(dir_)->Encode("Hello 2026", false),
            original->Encode("Hello 2026", false));
}

TEST_F(BadInput, MalformedJsonNamesLineAndColumn) {
  EXPECT_THAT(LoadErrorOf("{\n \"model\": {,}\n}"),
              HasSubstr("tokenizer.json: line 2, column 12, byte 14: not valid JSON: "));
  EXPECT_THAT(LoadErrorOf(""), HasSubstr("line 1, column 1, byte 1: not valid JSON"));
  EXPECT_THAT(LoadErrorOf("[1]"), HasSubstr("must hold a JSON object"));
  EXPECT_THAT(LoadErrorOf("{\"a\": 1e999}"),
              HasSubstr("line 1, column 11, byte 11: number overflow"));
}

TEST_F(BadInput, DeepJsonIsRefused) {
  const std::string open(100000, '['), close(100000, ']');
  EXPECT_THAT(LoadErrorOf(open), HasSubstr("tokenizer.json: line 1, column 257, byte 257: nested"));
  EXPECT_THAT(LoadErrorOf("{\"x\":" + open + close + "," + kModel + "}"),
              HasSubstr("nested more than 256 levels deep"));
  EXPECT_THAT(LoadErrorOf(R"({"model":{"type":"BPE","x":)" + open + close +
                          R"(,"vocab":{"a":0},"merges":[]}})"),
              HasSubstr("nested more than 256 levels deep"));
  Write("tokenizer.json", std::string("{") + kModel + "}");
  Write("tokenizer_config.json", "{\"x\":" + open + close + "}");
  EXPECT_THAT(LoadError(),
              HasSubstr("tokenizer_config.json: line 1, column 261, byte 261: nested"));
}

TEST_F(BadInput, OtherKindsAreRefusedByName) {
  EXPECT_THAT(LoadErrorOf(R"({"model":{"type":"Unigram","vocab":[["a",0.0]]}})"),
              AllOf(HasSubstr("model.type"), HasSubstr("Unigram"), HasSubstr("not implemented")));
  EXPECT_THAT(LoadErrorOf(R"({"model":{"type":"WordPiece","vocab":{"a":0}}})"),
              HasSubstr("WordPiece"));
  const std::string m = std::string(",") + kModel + "}";
  EXPECT_THAT(LoadErrorOf(R"({"normalizer":{"type":"Precompiled","precompiled_charsmap":""})" + m),
              HasSubstr("the normalizer \"Precompiled\""));
  EXPECT_THAT(
      LoadErrorOf(R"({"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"X"}]})" + m),
      HasSubstr("pre_tokenizer.pretokenizers[0].type asks for the pre-tokenizer \"X\""));
  EXPECT_THAT(LoadErrorOf(R"({"decoder":{"type":"CTC"})" + m), HasSubstr("the decoder \"CTC\""));
  EXPECT_THAT(LoadErrorOf(R"({"post_processor":{"type":"Y"})" + m),
              HasSubstr("the post-processor \"Y\""));
  EXPECT_THAT(LoadErrorOf(R"({"version":"2.0")" + m), HasSubstr("version"));
}

// Where PyPI's `tokenizers` goes by offsets, or fails (tools/fixtures/pipeline_fixtures.py).
TEST_F(BadInput, StartsByOffsetAndEmptiedTokensAreRefusedByName) {
  const auto file = [](const std::string& normalizer, const std::string& before = "") {
    return std::string("{") + kModel + R"(,"normalizer":)" + normalizer +
           R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[)" + before +
           R"({"type":"Metaspace","replacement":"_","prepend_scheme":"first"}]},)"
           R"("added_tokens":[{"id":9,"content":"\n","normalized":true}]})";
  };
  const std::string strip = R"({"type":"Strip","strip_left":true,"strip_right":false})";
  EXPECT_THAT(LoadErrorOf(file(R"({"type":"Sequence","normalizers":[)" + strip + "]}")),
              HasSubstr("pretokenizers[0].prepend_scheme is \"first\" behind a normalizer that"));
  EXPECT_THAT(LoadErrorOf(file(R"({"type":"Replace","pattern":{"String":"x"},"content":""})")),
              HasSubstr("Replace by nothing"));
  const std::string digits = R"({"type":"Digits"},)", bytes = R"({"type":"ByteLevel"},)";
  for (const std::string& moved : {file(R"({"type":"NFD"})", digits), file("null", bytes)}) {
    EXPECT_THAT(LoadErrorOf(moved), HasSubstr("\"first\" behind another pre-tokenizer and"));
  }
  EXPECT_EQ(LoadErrorOf(file("null", digits)), "no error");
  EXPECT_THAT(
      LoadErrorOf(file(R"({"type":"Strip","strip_left":false,"strip_right":true})")),
      AllOf(HasSubstr("added_tokens[0]"), HasSubstr("of which the normalizer leaves nothing")));
}

TEST_F(BadInput, VocabularyAndMergesMustFit) {
  const auto model = [](const std::string& fields) {
    return R"({"model":{"type":"BPE",)" + fields + "}}";
  };
  EXPECT_THAT(LoadErrorOf(model(R"("vocab":{"a":-1},"merges":[])")), HasSubstr("id -1"));
  EXPECT_THAT(LoadErrorOf(model(R"("vocab":{"a":99999999999},"merges":[])")), HasSubstr("\"a\""));
  EXPECT_THAT(LoadErrorOf(model(R"("vocab":{"a":0},"merges":["a b"])")),
              AllOf(HasSubstr("merges[0]"), HasSubstr("\"b\"")));
  EXPECT_THAT(LoadErrorOf(model(R"("vocab":{"a":0},"merges":[["a"]])")), HasSubstr("merges[0]"));
  EXPECT_THAT(LoadErrorOf(model(R"("vocab":{"a":0})")), HasSubstr("merges"));
  EXPECT_THAT(LoadErrorOf(model(R"("vocab":{"a":0},"merges":[],"unk_token":"u")")),
              HasSubstr("model.unk_token"));
  EXPECT_THAT(LoadErrorOf(model(R"("vocab":{"a":0},"merges":[],"dropout":0.1)")),
              HasSubstr("model.dropout"));
}

TEST_F(BadInput, RegularExpressions) {
  const auto split = [](const std::string& regex) {
    return R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":")" + regex +
           R"("},"behavior":"Isolated","invert":false},)" + kModel + "}";
  };
  EXPECT_THAT(LoadErrorOf(split("(a")), HasSubstr("pre_tokenizer.pattern.Regex"));
  EXPECT_THAT(LoadErrorOf(split("[&&b]")), HasSubstr("&&"));
  EXPECT_THAT(LoadErrorOf(split("\\\\p{NoSuch}")),
              HasSubstr("has the character property \\p{NoSuch}"));
  // A catastrophic pattern stops at the match limit.
  Write("tokenizer.json", split("(a+)+$"));
  const auto tokenizer = Tokenizer::FromFolder(dir_);
  const std::string error = ErrorOf([&] { tokenizer->Encode(std::string(64, 'a') + "b", false); });
  EXPECT_THAT(error, HasSubstr("regular expression failed"));
}

// Forty steps that each double a letter would make a terabyte of one.
TEST_F(BadInput, ReplaceStepsMayNotGrowWithoutBound) {
  const std::string step = R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  std::string steps = step;
  for (int i = 1; i < 40; ++i) steps += "," + step;
  Write("tokenizer.json", R"({"normalizer":{"type":"Sequence","normalizers":[)" + steps +
                              R"(]},"decoder":{"type":"Sequence","decoders":[)" + steps + "]}," +
                              kModel + "}");
  const auto tokenizer = Tokenizer::FromFolder(dir_);
  EXPECT_THAT(ErrorOf([&] { tokenizer->Encode("a", true); }), HasSubstr("64 times as long"));
  const std::vector<int32_t> ids = {0};
  EXPECT_THAT(ErrorOf([&] { tokenizer->Decode(ids, false); }), HasSubstr("64 times as long"));
  Write("tokenizer.json",
        R"({"normalizer":{"type":"Replace","pattern":{"String":"a"},"content":")" +
            std::string(1 << 17, 'b') + "\"}," + kModel + "}");
  EXPECT_THAT(ErrorOf([&] { Tokenizer::FromFolder(dir_)->Encode("a", true); }),
              HasSubstr("64 times as long"));
}

TEST_F(BadInput, InvalidUtf8CountsAsReplacementCharacters) {
  const auto tokenizer = Tokenizer::FromFolder(GoldenDir() + "/tokenizers/smollm2");
  EXPECT_EQ(tokenizer->Encode("a\xFF\xE4\xBD z", false),
            tokenizer->Encode("a\xEF\xBF\xBD\xEF\xBF\xBD z", false));
  EXPECT_TRUE(tokenizer->Encode("", true).empty());
}

TEST_F(BadInput, TemplatesNameConstructAndLine) {
  EXPECT_THAT(RenderError("a\n{% include 'x' %}"),
              AllOf(HasSubstr("t.jinja, line 2"), HasSubstr("{% include %} is not implemented")));
  for (const char* tag : {"import 'x' as y", "from 'x' import y, z as w with context",
                          "extends 'x'", "include 'x' ignore missing without context"}) {
    const std::string name(tag, std::string_view(tag).find(' '));
    EXPECT_THAT(
        RenderError("a\n\n{% " + std::string(tag) + " %}"),
        AllOf(HasSubstr("t.jinja, line 3"), HasSubstr("{% " + name + " %} is not implemented")));
  }
  EXPECT_THAT(RenderError("\n{% autoescape true %}x{% endautoescape %}"),
              AllOf(HasSubstr("line 2"), HasSubstr("{% autoescape %} is not implemented")));
  EXPECT_THAT(RenderError("\n{% include %}"), HasSubstr("line 2: unexpected '%}'"));
  EXPECT_THAT(RenderError("{% import 'x' %}"), HasSubstr("line 1: expected 'as'"));
  EXPECT_THAT(RenderError("\n\n{{ x | nosuch }}"),
              AllOf(HasSubstr("line 3"), HasSubstr("the filter \"nosuch\"")));
  EXPECT_THAT(RenderError("{{ x is nosuch }}"), HasSubstr("the test \"nosuch\""));
  EXPECT_THAT(RenderError("{% if x %}"), HasSubstr("{% endif %} is missing"));
  EXPECT_THAT(RenderError("{{ 'open }}"), HasSubstr("line 1: the string is not closed"));
  EXPECT_THAT(RenderError("{# open"), HasSubstr("comment is not closed"));
  EXPECT_THAT(RenderError("{% endfor %}"), HasSubstr("unexpected"));
  EXPECT_THAT(RenderError("{{ 1 +\n }}"), HasSubstr("line 2: unexpected '}}'"));
  EXPECT_THAT(RenderError("\n{{ messages[0].nosuch + 'x' }}"),
              AllOf(HasSubstr("line 2"), HasSubstr("no attribute 'nosuch'")));
  EXPECT_THAT(RenderError("{{ nosuch() }}"), HasSubstr("'nosuch' is undefined"));
  EXPECT_THAT(RenderError("{{ raise_exception('no!') }}"),
              HasSubstr("refuses this conversation: no!"));
  EXPECT_THAT(RenderError("{{ messages.append(1) }}"), HasSubstr("cannot be changed"));
  EXPECT_THAT(RenderError("{{ ''.__class__.mro }}"), HasSubstr("unsafe"));
}

TEST_F(BadInput, TemplatesAlwaysEnd) {
  EXPECT_THAT(RenderError(std::string(100000, '{') + "%"), HasSubstr("line 1"));
  EXPECT_THAT(RenderError("{{ " + std::string(9999, '(') + std::string(9999, ')') + " }}"),
              HasSubstr("too deeply"));
  EXPECT_THAT(RenderError("{{ " + std::string(100000, '-') + "1 }}"), HasSubstr("too deeply"));
  std::string nested;
  for (int i = 0; i < 10000; ++i) nested += "{% if 1 %}";
  EXPECT_THAT(RenderError(nested), HasSubstr("too deeply"));
  EXPECT_THAT(RenderError("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
              HasSubstr("too deeply"));
  EXPECT_THAT(RenderError("{{ range(10000000) }}"), HasSubstr("range too big"));
  EXPECT_THAT(RenderError("{{ 'x' * 1000000000 }}"), HasSubstr("more than a million"));
  EXPECT_THAT(RenderError("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
                          "{% endfor %}"),
              HasSubstr("does not end"));
  EXPECT_THAT(RenderError("{{ 9223372036854775 * 99999 }}"), HasSubstr("beyond 64 bits"));

  std::string sum = "{{ 1";
  for (int i = 0; i < 100'000; ++i) sum += "+1";
  EXPECT_THAT(RenderError(sum + " }}"), HasSubstr("too long or nested"));
  EXPECT_THAT(RenderError("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
              HasSubstr("too deeply"));
  EXPECT_THAT(RenderError("{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}"
                          "{{ g() }}{% endcall %}{% endmacro %}{{ g() }}"),
              HasSubstr("too deeply"));
  // Each of three lines, and a gigabyte: doubled texts and lists, lists in lists, output.
  const auto loop = [](const std::string& step) {
    return "{% set ns = namespace(x='ab', l=[1], d=[]) %}{% for i in range(40) %}" + step +
           "{% endfor %}{{ ns.x|length }}";
  };
  EXPECT_THAT(RenderError(loop("{% set ns.x = ns.x ~ ns.x %}")), HasSubstr("16 MiB"));
  EXPECT_THAT(RenderError(loop("{% set ns.l = ns.l + ns.l %}")), HasSubstr("128 MiB"));
  EXPECT_THAT(RenderError(loop("{% set ns.l = [ns.l, ns.l] %}") + "{{ ns.l }}"),
              HasSubstr("16 MiB"));
  EXPECT_THAT(RenderError("{% set ns = namespace(l=[]) %}{% for i in range(1000) %}"
                          "{% set ns.l = [ns.l] %}{% endfor %}"),
              HasSubstr("nested too deeply"));
  EXPECT_THAT(
      RenderError("{% set x = 'a' * 1000000 %}{% for i in range(100) %}{{ x }}{% endfor %}"),
      HasSubstr("16 MiB"));
  EXPECT_THAT(RenderError("{% set x = range(99999)|list %}{% for i in range(99999) %}"
                          "{{ x|length }}{% endfor %}"),
              HasSubstr("does too much"));
  // A namespace that holds itself ends with the rendering.
  EXPECT_EQ(RenderError("{% set ns = namespace() %}{% set ns.ns = ns %}"), "no error");
  EXPECT_THAT(RenderError("{{ 1 // 0 }}"), HasSubstr("division by zero"));
}

TEST_F(BadInput, TokenizeRowsAreNamed) {
  TokenizeOptions options{GoldenDir() + "/tokenizers/smollm2"};
  const auto error = [&](const std::string& rows) {
    std::istringstream in(rows);
    std::ostringstream out;
    return ErrorOf([&] { RunTokenize(options, in, out); });
  };
  EXPECT_THAT(error("{\"text\":\"a\"}\n\n{\"text\":"),
              HasSubstr("line 3 cannot be read: not valid JSON"));
  EXPECT_THAT(error("{\"text\":1e999}"), HasSubstr("line 1 cannot be read: number overflow"));
  EXPECT_THAT(error(std::string(100000, '[')),
              HasSubstr("line 1 cannot be read: nested more than"));
  EXPECT_THAT(error("{\"txt\":\"a\"}"), HasSubstr("neither \"text\""));
  EXPECT_THAT(error("{\"messages\":[]}"), HasSubstr("has no chat template"));
  options.decode = true;
  EXPECT_THAT(error("{\"ids\":[-1]}"), HasSubstr("line 1 has an id that is no id: -1"));
}

TEST_F(BadInput, TokenizeThereAndBack) {
  std::filesystem::copy(GoldenDir() + "/tokenizers/qwen2/tokenizer.json", dir_ + "/tokenizer.json");
  Write("tokenizer_config.json", R"({"eos_token":{"content":"<|im_end|>"},"chat_template":[
      {"name":"default","template":"{% for m in messages %}<|im_start|>{{ m.content }})"
                                 R"({{ eos_token }}{% endfor %}"},
      {"name":"tool_use","template":"{{ tools[0].b }}{{ tools | tojson }}"}]})");
  std::istringstream in(
      "{\"text\":\"h\xC3\xA9 <|im_end|>\"}\n"
      "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"add_generation_prompt\":true}\n"
      "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"tools\":[{\"b\":1,\"a\":2}]}\n");
  std::stringstream ids;
  RunTokenize({dir_}, in, ids);
  EXPECT_THAT(ids.str(), HasSubstr(R"("rendered":"<|im_start|>hi<|im_end|>")"));
  EXPECT_THAT(ids.str(), HasSubstr(R"("rendered":"1[{\"b\": 1, \"a\": 2}]")"));
  std::ostringstream back;
  TokenizeOptions decode{dir_, true};
  RunTokenize(decode, ids, back);
  EXPECT_EQ(back.str(),
            "{\"text\":\"h\xC3\xA9 <|im_end|>\"}\n{\"text\":\"<|im_start|>hi<|im_end|>\"}\n"
            "{\"text\":\"1[{\\\"b\\\": 1, \\\"a\\\": 2}]\"}\n");
  const auto tokenizer = Tokenizer::FromFolder(dir_);
  EXPECT_EQ(tokenizer->eos_id(), tokenizer->TokenToId("<|im_end|>"));
  EXPECT_EQ(tokenizer->bos_id(), std::nullopt);
}

}  // namespace
}  // namespace liger::trainer
