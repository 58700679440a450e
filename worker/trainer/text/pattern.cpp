#include "worker/trainer/text/pattern.h"

#include "worker/trainer/text/split_scanner.h"

namespace liger::trainer {
namespace {

class LiteralPattern : public Pattern {
 public:
  explicit LiteralPattern(std::string literal) : literal_(std::move(literal)) {}

  void Find(std::string_view text, std::vector<MatchSpan>* spans) const override {
    size_t done = 0;
    for (size_t at; (at = text.find(literal_, done)) != std::string_view::npos;) {
      if (at > done) spans->push_back({done, at, false});
      done = at + literal_.size();
      spans->push_back({at, done, true});
    }
    if (done < text.size()) spans->push_back({done, text.size(), false});
  }

 private:
  const std::string literal_;
};

// Any scanner whose matches cover the text.
template <typename Scan>
class ScannerPattern : public Pattern {
 public:
  explicit ScannerPattern(Scan scan) : scan_(scan) {}

  void Find(std::string_view text, std::vector<MatchSpan>* spans) const override {
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    for (const char* p = begin; p < end;) {
      const char* next = scan_(p, end);
      spans->push_back({size_t(p - begin), size_t(next - begin), true});
      p = next;
    }
  }

 private:
  const Scan scan_;
};

template <typename Scan>
std::unique_ptr<Pattern> MakeScanner(Scan scan) {
  return std::make_unique<ScannerPattern<Scan>>(scan);
}

}  // namespace

std::unique_ptr<Pattern> MakePattern(const ConfigNode& node) {
  if (node.Has("String")) {
    std::string literal = node.String("String");
    if (literal.empty()) node.At("String").Fail("must not be empty");
    return std::make_unique<LiteralPattern>(std::move(literal));
  }
  const std::string regex = node.String("Regex");
  if (regex == kGpt2Regex) return MakeScanner(ScanGpt2);
  if (const std::optional<int> digits = Cl100kDigits(regex)) {
    return MakeScanner(
        [n = *digits](const char* p, const char* end) { return ScanCl100k(p, end, n); });
  }
  return MakePcrePattern(regex, node.At("Regex"));
}

}  // namespace liger::trainer
