#include "worker/trainer/text/code_point_set.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <initializer_list>
#include <map>

namespace liger::trainer {
namespace {

using Run = CodePointSet::Run;
using unicode::Category;

constexpr char32_t kLast = 0x10FFFF;
constexpr Run kSurrogates = {0xD800, 0xDFFF};

// Runs with the category that they had in PCRE2's Unicode version.
struct ChangedRun {
  char32_t first, last;
  int category;
};
constexpr ChangedRun kChanged[] = {
#include "worker/trainer/text/unicode_changed.inc"
};

// The categories of `mask`, with the runs that are otherwise.
struct NamedSet {
  const char* name;
  uint32_t mask;
  std::initializer_list<Run> otherwise;
};
constexpr NamedSet kSets[] = {
#include "worker/trainer/text/unicode_sets.inc"
};

struct NamedCategories {
  const char* name;
  uint32_t mask;
};

constexpr uint32_t Bit(Category c) { return uint32_t{1} << static_cast<int>(c); }
template <typename... C>
constexpr uint32_t Bits(C... c) {
  return (Bit(c) | ...);
}

constexpr uint32_t kCased = Bits(Category::kLl, Category::kLt, Category::kLu);
constexpr uint32_t kLetter = kCased | Bits(Category::kLm, Category::kLo);
constexpr uint32_t kMark = Bits(Category::kMc, Category::kMe, Category::kMn);
constexpr uint32_t kNumber = Bits(Category::kNd, Category::kNl, Category::kNo);
constexpr uint32_t kPunctuation = Bits(Category::kPc, Category::kPd, Category::kPe, Category::kPf,
                                       Category::kPi, Category::kPo, Category::kPs);
constexpr uint32_t kSymbol = Bits(Category::kSc, Category::kSk, Category::kSm, Category::kSo);
constexpr uint32_t kSeparator = Bits(Category::kZl, Category::kZp, Category::kZs);
constexpr uint32_t kOther =
    Bits(Category::kCc, Category::kCf, Category::kCn, Category::kCo, Category::kCs);
constexpr uint32_t kAny = (uint32_t{1} << unicode::kCategories) - 1;

constexpr NamedCategories kCategoryNames[] = {
    {"any", kAny},
    {"assigned", kAny & ~Bit(Category::kCn)},
    {"c", kOther},
    {"other", kOther},
    {"cc", Bit(Category::kCc)},
    {"control", Bit(Category::kCc)},
    {"cf", Bit(Category::kCf)},
    {"format", Bit(Category::kCf)},
    {"cn", Bit(Category::kCn)},
    {"unassigned", Bit(Category::kCn)},
    {"co", Bit(Category::kCo)},
    {"privateuse", Bit(Category::kCo)},
    {"l", kLetter},
    {"letter", kLetter},
    {"lc", kCased},
    {"casedletter", kCased},
    {"ll", Bit(Category::kLl)},
    {"lowercaseletter", Bit(Category::kLl)},
    {"lm", Bit(Category::kLm)},
    {"modifierletter", Bit(Category::kLm)},
    {"lo", Bit(Category::kLo)},
    {"otherletter", Bit(Category::kLo)},
    {"lt", Bit(Category::kLt)},
    {"titlecaseletter", Bit(Category::kLt)},
    {"lu", Bit(Category::kLu)},
    {"uppercaseletter", Bit(Category::kLu)},
    {"m", kMark},
    {"mark", kMark},
    {"combiningmark", kMark},
    {"mc", Bit(Category::kMc)},
    {"spacingmark", Bit(Category::kMc)},
    {"me", Bit(Category::kMe)},
    {"enclosingmark", Bit(Category::kMe)},
    {"mn", Bit(Category::kMn)},
    {"nonspacingmark", Bit(Category::kMn)},
    {"n", kNumber},
    {"number", kNumber},
    {"nd", Bit(Category::kNd)},
    {"digit", Bit(Category::kNd)},
    {"decimalnumber", Bit(Category::kNd)},
    {"nl", Bit(Category::kNl)},
    {"letternumber", Bit(Category::kNl)},
    {"no", Bit(Category::kNo)},
    {"othernumber", Bit(Category::kNo)},
    {"p", kPunctuation},
    {"punct", kPunctuation},
    {"punctuation", kPunctuation},
    {"pc", Bit(Category::kPc)},
    {"connectorpunctuation", Bit(Category::kPc)},
    {"pd", Bit(Category::kPd)},
    {"dashpunctuation", Bit(Category::kPd)},
    {"pe", Bit(Category::kPe)},
    {"closepunctuation", Bit(Category::kPe)},
    {"pf", Bit(Category::kPf)},
    {"finalpunctuation", Bit(Category::kPf)},
    {"pi", Bit(Category::kPi)},
    {"initialpunctuation", Bit(Category::kPi)},
    {"po", Bit(Category::kPo)},
    {"otherpunctuation", Bit(Category::kPo)},
    {"ps", Bit(Category::kPs)},
    {"openpunctuation", Bit(Category::kPs)},
    {"s", kSymbol},
    {"symbol", kSymbol},
    {"sc", Bit(Category::kSc)},
    {"currencysymbol", Bit(Category::kSc)},
    {"sk", Bit(Category::kSk)},
    {"modifiersymbol", Bit(Category::kSk)},
    {"sm", Bit(Category::kSm)},
    {"mathsymbol", Bit(Category::kSm)},
    {"so", Bit(Category::kSo)},
    {"othersymbol", Bit(Category::kSo)},
    {"z", kSeparator},
    {"separator", kSeparator},
    {"zl", Bit(Category::kZl)},
    {"lineseparator", Bit(Category::kZl)},
    {"zp", Bit(Category::kZp)},
    {"paragraphseparator", Bit(Category::kZp)},
    {"zs", Bit(Category::kZs)},
    {"spaceseparator", Bit(Category::kZs)},
};

// PCRE2's names, in the order of Category.
constexpr const char* kPcreNames[] = {"Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu",
                                      "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc", "Pd", "Pe", "Pf",
                                      "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs"};
static_assert(std::size(kPcreNames) == unicode::kCategories);

// What PCRE2 has in a category.
const CodePointSet& PcreCategory(int category) {
  static const std::vector<CodePointSet>* sets = [] {
    auto* all = new std::vector<CodePointSet>;
    for (int i = 0; i < unicode::kCategories; ++i) {
      CodePointSet set = CodePointSet::OfCategories(uint32_t{1} << i);
      for (const ChangedRun& run : kChanged) {
        const CodePointSet changed = CodePointSet::Of(run.first, run.last);
        set = run.category == i ? set | changed : set - changed;
      }
      all->push_back(std::move(set));
    }
    return all;
  }();
  return (*sets)[category];
}

CodePointSet SetOf(const NamedSet& named) {
  CodePointSet otherwise;
  for (const Run& run : named.otherwise) {
    otherwise = otherwise | CodePointSet::Of(run.first, run.last);
  }
  return CodePointSet::OfCategories(named.mask) ^ otherwise;
}

// A code point, or a run of them, in a bracket class.
std::string Escaped(const Run& run) {
  char text[32];
  const auto first = static_cast<unsigned>(run.first), last = static_cast<unsigned>(run.last);
  if (first == last) {
    std::snprintf(text, sizeof(text), "\\x{%X}", first);
  } else {
    std::snprintf(text, sizeof(text), "\\x{%X}-\\x{%X}", first, last);
  }
  return text;
}

struct Written {
  std::string text;
  size_t items = 0;
};

// The members one after the other, whole categories by name.
Written WriteMembers(const CodePointSet& set) {
  CodePointSet left = set;
  Written out;
  for (int i = 0; i < unicode::kCategories; ++i) {
    const CodePointSet& category = PcreCategory(i);
    // A run is no longer than a name.
    if (category.runs().size() < 2 || !set.Includes(category)) continue;
    out.text += std::string("\\p{") + kPcreNames[i] + "}";
    ++out.items;
    left = left - category;
  }
  // Bytes are looked up in a bitmap, so ASCII is written out.
  left = left | (set & CodePointSet::Of(0, 0x7F));
  for (const Run& run : left.runs()) out.text += Escaped(run);
  out.items += left.runs().size();
  return out;
}

}  // namespace

CodePointSet CodePointSet::Of(char32_t first, char32_t last) {
  std::vector<Run> runs;
  if (first < kSurrogates.first) {
    runs.push_back({first, std::min<char32_t>(last, kSurrogates.first - 1)});
  }
  if (last > kSurrogates.last) {
    runs.push_back({std::max<char32_t>(first, kSurrogates.last + 1), last});
  }
  return CodePointSet(std::move(runs));
}

CodePointSet CodePointSet::OfCategories(uint32_t mask) {
  std::vector<Run> runs;
  unicode::ForEachCategoryRun([&](char32_t first, char32_t last, Category category) {
    if ((mask >> static_cast<int>(category) & 1) == 0 || category == Category::kCs) return;
    if (!runs.empty() && runs.back().last + 1 == first) {
      runs.back().last = last;
    } else {
      runs.push_back({first, last});
    }
  });
  return CodePointSet(std::move(runs));
}

CodePointSet CodePointSet::operator|(const CodePointSet& other) const {
  std::vector<Run> all;
  std::merge(runs_.begin(), runs_.end(), other.runs_.begin(), other.runs_.end(),
             std::back_inserter(all),
             [](const Run& a, const Run& b) { return a.first < b.first; });
  std::vector<Run> runs;
  for (const Run& run : all) {
    if (!runs.empty() && run.first <= runs.back().last + 1) {
      runs.back().last = std::max(runs.back().last, run.last);
    } else {
      runs.push_back(run);
    }
  }
  return CodePointSet(std::move(runs));
}

CodePointSet CodePointSet::operator&(const CodePointSet& other) const {
  std::vector<Run> runs;
  for (auto a = runs_.begin(), b = other.runs_.begin();
       a != runs_.end() && b != other.runs_.end();) {
    const char32_t first = std::max(a->first, b->first), last = std::min(a->last, b->last);
    if (first <= last) runs.push_back({first, last});
    a->last < b->last ? (void)++a : (void)++b;
  }
  return CodePointSet(std::move(runs));
}

CodePointSet CodePointSet::operator~() const {
  std::vector<Run> runs;
  char32_t next = 0;
  const auto gap = [&](char32_t end) {  // [next, end)
    const CodePointSet between = next < end ? Of(next, end - 1) : CodePointSet();
    runs.insert(runs.end(), between.runs_.begin(), between.runs_.end());
  };
  for (const Run& run : runs_) {
    gap(run.first);
    next = run.last + 1;
  }
  gap(kLast + 1);
  return CodePointSet(std::move(runs));
}

CodePointSet CodePointSet::operator^(const CodePointSet& other) const {
  return (*this - other) | (other - *this);
}

bool CodePointSet::Has(char32_t c) const {
  const auto next = std::upper_bound(runs_.begin(), runs_.end(), c,
                                     [](char32_t x, const Run& run) { return x < run.first; });
  return next != runs_.begin() && c <= std::prev(next)->last;
}

std::optional<CodePointSet> FindCharacterProperty(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    key += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  for (const NamedCategories& named : kCategoryNames) {
    if (key == named.name) return CodePointSet::OfCategories(named.mask);
  }
  const bool letters = !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyz") ==
                                           std::string::npos;
  for (const NamedSet& named : kSets) {
    if (letters && key == named.name) return SetOf(named);
  }
  return std::nullopt;
}

const CodePointSet& BuiltInSet(std::string_view name) {
  static const auto* sets = [] {
    auto* all = new std::map<std::string_view, CodePointSet>;
    for (const NamedSet& named : kSets) {
      if (!std::isalpha(static_cast<unsigned char>(named.name[0]))) {
        (*all)[named.name] = SetOf(named);
      }
    }
    return all;
  }();
  return sets->at(name);
}

std::string PcreClassOf(const CodePointSet& set) {
  const Written with = WriteMembers(set), without = WriteMembers(~set);
  // A class must not be empty.
  if (set.empty()) return "^\\x{0}-\\x{10FFFF}";
  if ((~set).empty()) return "\\x{0}-\\x{10FFFF}";
  return without.items < with.items ? "^" + without.text : with.text;
}

}  // namespace liger::trainer
