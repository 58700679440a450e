#include "worker/trainer/text/decoder.h"

#include <cctype>
#include <optional>

#include "worker/trainer/text/byte_alphabet.h"
#include "worker/trainer/text/growth.h"
#include "worker/trainer/text/pattern.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

using Ptr = std::unique_ptr<Decoder>;
using Tokens = std::vector<std::string>;

constexpr const char* kReplacementCharacter = "\xEF\xBF\xBD";

class ByteLevel : public Decoder {
 public:
  Tokens Decode(Tokens tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) AppendAlphabetBytes(token, &bytes);
    return {unicode::Utf8Lossy(bytes)};
  }
};

// <0xE2><0x82><0xAC> back to a character; bytes that are not UTF-8 together
// become one U+FFFD each.
class ByteFallback : public Decoder {
 public:
  Tokens Decode(Tokens tokens) const override {
    Tokens out;
    std::string bytes;
    const auto flush = [&] {
      if (unicode::IsValidUtf8(bytes)) {
        if (!bytes.empty()) out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), kReplacementCharacter);
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const std::optional<char> byte = ByteOf(token)) {
        bytes.push_back(*byte);
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    return out;
  }

 private:
  static std::optional<char> ByteOf(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    if (!std::isxdigit(static_cast<unsigned char>(token[3])) ||
        !std::isxdigit(static_cast<unsigned char>(token[4]))) {
      return std::nullopt;
    }
    return static_cast<char>(std::stoi(token.substr(3, 2), nullptr, 16));
  }
};

class Fuse : public Decoder {
 public:
  Tokens Decode(Tokens tokens) const override {
    std::string all;
    for (const std::string& token : tokens) all += token;
    return {all};
  }
};

class Replace : public Decoder {
 public:
  explicit Replace(const ConfigNode& node)
      : pattern_(MakePattern(node.At("pattern"))), content_(node.String("content")) {}

  Tokens Decode(Tokens tokens) const override {
    std::vector<MatchSpan> spans;
    for (std::string& token : tokens) {
      spans.clear();
      pattern_->Find(token, &spans);
      std::string out;
      for (const MatchSpan& s : spans) {
        s.is_match ? out.append(content_) : out.append(token, s.begin, s.end - s.begin);
        RequireBoundedGrowth(token.size(), out.size());
      }
      token.swap(out);
    }
    return tokens;
  }

 private:
  const std::unique_ptr<Pattern> pattern_;
  const std::string content_;
};

// Removes up to `start` and `stop` times a character from each token's ends.
class Strip : public Decoder {
 public:
  explicit Strip(const ConfigNode& node)
      : start_(node.At("start").Int()), stop_(node.At("stop").Int()) {
    unicode::AppendUtf8(node.At("content").Char(), &content_);
  }

  Tokens Decode(Tokens tokens) const override {
    for (std::string& token : tokens) {
      for (int64_t i = 0; i < start_ && token.starts_with(content_); ++i) {
        token.erase(0, content_.size());
      }
      for (int64_t i = 0; i < stop_ && token.ends_with(content_); ++i) {
        token.resize(token.size() - content_.size());
      }
    }
    return tokens;
  }

 private:
  const int64_t start_, stop_;
  std::string content_;
};

class Metaspace : public Decoder {
 public:
  explicit Metaspace(const ConfigNode& node) {
    unicode::AppendUtf8(node.At("replacement").Char(), &replacement_);
    const std::string scheme =
        node.Has("prepend_scheme") ? node.String("prepend_scheme") : "always";
    strip_first_ = scheme != "never" && node.Bool("add_prefix_space", true);
  }

  Tokens Decode(Tokens tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const bool drop = i == 0 && strip_first_;
      std::string out;
      size_t done = 0;
      for (size_t at; (at = tokens[i].find(replacement_, done)) != std::string::npos;) {
        out.append(tokens[i], done, at - done);
        if (!drop) out.push_back(' ');
        done = at + replacement_.size();
      }
      tokens[i] = out.append(tokens[i], done);
    }
    return tokens;
  }

 private:
  std::string replacement_;
  bool strip_first_;
};

class Sequence : public Decoder {
 public:
  explicit Sequence(const ConfigNode& node) {
    for (const ConfigNode& step : node.At("decoders").Array()) {
      steps_.push_back(MakeDecoder(step));
    }
  }
  Tokens Decode(Tokens tokens) const override {
    const size_t before = TotalSize(tokens);
    for (const Ptr& step : steps_) {
      tokens = step->Decode(std::move(tokens));
      RequireBoundedGrowth(before, TotalSize(tokens));
    }
    return tokens;
  }

 private:
  static size_t TotalSize(const Tokens& tokens) {
    size_t size = 0;
    for (const std::string& token : tokens) size += token.size();
    return size;
  }

  std::vector<Ptr> steps_;
};

template <typename T>
Ptr Make(const ConfigNode& node) {
  if constexpr (std::is_default_constructible_v<T>) {
    return std::make_unique<T>();
  } else {
    return std::make_unique<T>(node);
  }
}

constexpr ComponentEntry<Ptr> kTable[] = {
    {"ByteLevel", Make<ByteLevel>}, {"ByteFallback", Make<ByteFallback>},
    {"Fuse", Make<Fuse>},           {"Replace", Make<Replace>},
    {"Strip", Make<Strip>},         {"Metaspace", Make<Metaspace>},
    {"Sequence", Make<Sequence>},
};

}  // namespace

Ptr MakeDecoder(const ConfigNode& node) { return MakeComponent(kTable, "decoder", node); }

}  // namespace liger::trainer
