#include "worker/trainer/text/pre_tokenizer.h"

#include <cstring>

#include "worker/trainer/text/byte_alphabet.h"
#include "worker/trainer/text/code_point_set.h"
#include "worker/trainer/text/split_behavior.h"
#include "worker/trainer/text/split_scanner.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

using Ptr = std::unique_ptr<PreTokenizer>;

// GPT-2's regular expression, then bytes as characters of the byte alphabet.
class ByteLevel : public PreTokenizer {
 public:
  explicit ByteLevel(const ConfigNode& node)
      : add_prefix_space_(node.Bool("add_prefix_space", true)),
        use_regex_(node.Bool("use_regex", true)) {}

  void Apply(PreTokenized* pieces) const override {
    size_t size = 0;
    for (const auto& piece : pieces->pieces()) size += piece.text.size() + 1;
    // Each byte takes at most two in the alphabet; the 1 is the prefix space.
    char* out = pieces->Allocate(2 * size);
    std::string prefixed;
    pieces->Refine([&](const PreTokenized::Piece& piece, auto emit) {
      std::string_view text = piece.text;
      if (add_prefix_space_ && text[0] != ' ') {
        prefixed.assign(1, ' ').append(text);
        text = prefixed;
      }
      const char* const end = text.data() + text.size();
      for (const char* p = text.data(); p < end;) {
        const char* next = use_regex_ ? ScanGpt2(p, end) : end;
        char* stop = BytesToAlphabet(std::string_view(p, next - p), out);
        emit(std::string_view(out, stop - out));
        out = stop;
        p = next;
      }
    });
  }

 private:
  const bool add_prefix_space_, use_regex_;
};

class Split : public PreTokenizer {
 public:
  Split(std::unique_ptr<Pattern> pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  explicit Split(const ConfigNode& node)
      : Split(MakePattern(node.At("pattern")), ParseSplitBehavior(node.At("behavior")),
              node.Bool("invert", false)) {}

  void Apply(PreTokenized* pieces) const override {
    std::vector<MatchSpan> spans;
    pieces->Refine([&](const PreTokenized::Piece& piece, auto emit) {
      spans.clear();
      pattern_->Find(piece.text, &spans);
      if (invert_) {
        for (MatchSpan& span : spans) span.is_match = !span.is_match;
      }
      ApplyBehavior(behavior_, &spans);
      for (const MatchSpan& span : spans) {
        emit(piece.text.substr(span.begin, span.end - span.begin));
      }
    });
  }

 private:
  const std::unique_ptr<Pattern> pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

// Each character of a set is a match.
class CharPattern : public Pattern {
 public:
  explicit CharPattern(const CodePointSet& set) : set_(set) {
    for (char32_t c = 0; c < 128; ++c) ascii_[c] = set.Has(c);
  }

  void Find(std::string_view text, std::vector<MatchSpan>* spans) const override {
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    size_t done = 0;
    for (const char* p = begin; p < end;) {
      const size_t at = p - begin;
      const char32_t c = unicode::NextCodePoint(p);
      if (!(c < 128 ? ascii_[c] : set_.Has(c))) continue;
      if (at > done) spans->push_back({done, at, false});
      done = p - begin;
      spans->push_back({at, done, true});
    }
    if (done < text.size()) spans->push_back({done, text.size(), false});
  }

 private:
  const CodePointSet& set_;
  bool ascii_[128];
};

Ptr MakeCharSplit(const char* set, SplitBehavior behavior) {
  return std::make_unique<Split>(std::make_unique<CharPattern>(BuiltInSet(set)), behavior, false);
}

Ptr MakeDigits(const ConfigNode& node) {
  return MakeCharSplit("!digits", node.Bool("individual_digits", false)
                                                   ? SplitBehavior::kIsolated
                                                   : SplitBehavior::kContiguous);
}

Ptr MakePunctuation(const ConfigNode& node) {
  return MakeCharSplit("!punctuation", node.Has("behavior")
                                              ? ParseSplitBehavior(node.At("behavior"))
                                              : SplitBehavior::kIsolated);
}

// SentencePiece's way: spaces become a visible character, and pieces start at it.
class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(const ConfigNode& node) : split_(node.Bool("split", true)) {
    unicode::AppendUtf8(node.At("replacement").Char(), &replacement_);
    const std::string scheme =
        node.Has("prepend_scheme") ? node.String("prepend_scheme") : "always";
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      node.At("prepend_scheme").FailUnknownType("prepend scheme", "always, first, never");
    }
    const bool never = scheme == "never" || !node.Bool("add_prefix_space", true);
    prepend_ = never ? Prepend::kNever : scheme == "first" ? Prepend::kFirst : Prepend::kAlways;
  }

  void Apply(PreTokenized* pieces) const override {
    pieces->Refine([&](const PreTokenized::Piece& piece, auto emit) {
      const std::string_view text = Rewrite(piece, pieces);
      if (!split_) return emit(text);
      size_t begin = 0;
      for (size_t at = 1; at < text.size(); ++at) {
        if (text.substr(at, replacement_.size()) != replacement_) continue;
        emit(text.substr(begin, at - begin));
        begin = at;
      }
      emit(text.substr(begin));
    });
  }

 private:
  enum class Prepend { kAlways, kFirst, kNever };

  std::string_view Rewrite(const PreTokenized::Piece& piece, PreTokenized* pieces) const {
    const bool starts_so = piece.text[0] == ' ' || piece.text.starts_with(replacement_);
    const bool prepend = !starts_so && (prepend_ == Prepend::kAlways ||
                                        (prepend_ == Prepend::kFirst && piece.at_start));
    std::string out = prepend ? replacement_ : "";
    for (const char c : piece.text) c == ' ' ? out.append(replacement_) : out.append(1, c);
    char* kept = pieces->Allocate(out.size());
    std::memcpy(kept, out.data(), out.size());
    return std::string_view(kept, out.size());
  }

  const bool split_;
  std::string replacement_;
  Prepend prepend_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(const ConfigNode& node) {
    for (const ConfigNode& step : node.At("pretokenizers").Array()) {
      steps_.push_back(MakePreTokenizer(step));
    }
  }
  void Apply(PreTokenized* pieces) const override {
    for (const Ptr& step : steps_) step->Apply(pieces);
  }

 private:
  std::vector<Ptr> steps_;
};

template <typename T>
Ptr Make(const ConfigNode& node) {
  return std::make_unique<T>(node);
}

constexpr ComponentEntry<Ptr> kTable[] = {
    {"ByteLevel", Make<ByteLevel>},
    {"Split", Make<Split>},
    {"Digits", MakeDigits},
    {"Punctuation", MakePunctuation},
    {"WhitespaceSplit",
     [](const ConfigNode&) { return MakeCharSplit("!space", SplitBehavior::kRemoved); }},
    {"Metaspace", Make<Metaspace>},
    {"Sequence", Make<Sequence>},
};

}  // namespace

Ptr MakePreTokenizer(const ConfigNode& node) {
  return MakeComponent(kTable, "pre-tokenizer", node);
}

}  // namespace liger::trainer
