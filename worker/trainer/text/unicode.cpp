#include "worker/trainer/text/unicode.h"

#include <cstring>
#include <iterator>
#include <memory>

namespace liger::trainer::unicode {
namespace {

constexpr char32_t kCodePoints = 0x110000;

// First code point << 5 | Category of each run.
constexpr uint32_t kRuns[] = {
#include "worker/trainer/text/unicode_categories.inc"
};

CharClass ClassOfCategory(Category category) {
  switch (category) {
    case Category::kLl:
    case Category::kLm:
    case Category::kLo:
    case Category::kLt:
    case Category::kLu:
      return CharClass::kLetter;
    case Category::kMc:
    case Category::kMe:
    case Category::kMn:
      return CharClass::kMark;
    case Category::kNd:
      return CharClass::kDecimal;
    case Category::kNl:
      return CharClass::kLetterNumber;
    case Category::kNo:
      return CharClass::kOtherNumber;
    case Category::kPc:
      return CharClass::kConnector;
    case Category::kPd:
    case Category::kPe:
    case Category::kPf:
    case Category::kPi:
    case Category::kPo:
    case Category::kPs:
      return CharClass::kPunctuation;
    case Category::kSc:
    case Category::kSk:
    case Category::kSm:
    case Category::kSo:
      return CharClass::kSymbol;
    default:
      return CharClass::kOther;
  }
}

// One byte a code point: 1.1 MB, of which a text touches a few pages.
class ClassTable {
 public:
  ClassTable() : classes_(new uint8_t[kCodePoints]) {
    ForEachCategoryRun([this](char32_t first, char32_t last, Category category) {
      std::memset(&classes_[first], static_cast<int>(ClassOfCategory(category)), last - first + 1);
    });
  }
  const uint8_t* data() const { return classes_.get(); }

 private:
  std::unique_ptr<uint8_t[]> classes_;
};

// Length of the well-formed sequence at `p`, or 0; then *bad is the length of
// the maximal ill-formed subpart (at least 1).
int SequenceLength(const unsigned char* p, const unsigned char* end, int* bad) {
  *bad = 1;
  const unsigned char lead = p[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and > U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int i = 1; i < length; ++i) {
    if (p + i == end) return 0;
    const bool ok = i == 1 ? p[i] >= low && p[i] <= high : (p[i] & 0xC0) == 0x80;
    if (!ok) return 0;
    *bad = i + 1;
  }
  return length;
}

}  // namespace

void ForEachCategoryRun(const std::function<void(char32_t, char32_t, Category)>& run) {
  constexpr size_t n = std::size(kRuns);
  for (size_t i = 0; i < n; ++i) {
    const char32_t end = i + 1 < n ? kRuns[i + 1] >> 5 : kCodePoints;
    run(kRuns[i] >> 5, end - 1, static_cast<Category>(kRuns[i] & 31));
  }
}

CharClass ClassOf(char32_t c) {
  static const ClassTable* table = new ClassTable;
  static const uint8_t* classes = table->data();
  return static_cast<CharClass>(c < kCodePoints ? classes[c] : 0);
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == 0x20 || (c >= 0x09 && c <= 0x0D);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsWord(char32_t c) {
  switch (ClassOf(c)) {
    case CharClass::kLetter:
    case CharClass::kMark:
    case CharClass::kDecimal:
    case CharClass::kLetterNumber:
    case CharClass::kConnector:
      return true;
    default:
      // Join controls, and the symbols with the property Other_Alphabetic.
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
             (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
             (c >= 0x1F170 && c <= 0x1F189);
  }
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | c >> 6));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | c >> 12));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | c >> 18));
    out->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

bool IsValidUtf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  int bad = 0;
  while (p < end) {
    uint64_t word;
    if (end - p >= 8 && (std::memcpy(&word, p, 8), (word & 0x8080808080808080u) == 0)) {
      p += 8;
      continue;
    }
    const int length = SequenceLength(p, end, &bad);
    if (length == 0) return false;
    p += length;
  }
  return true;
}

std::string Utf8Lossy(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  const auto* p = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto* end = p + bytes.size();
  int bad = 0;
  while (p < end) {
    const int length = SequenceLength(p, end, &bad);
    if (length > 0) {
      out.append(reinterpret_cast<const char*>(p), length);
      p += length;
    } else {
      out.append("\xEF\xBF\xBD");
      p += bad;
    }
  }
  return out;
}

}  // namespace liger::trainer::unicode
