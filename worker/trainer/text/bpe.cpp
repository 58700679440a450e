#include "worker/trainer/text/bpe.h"

#include <algorithm>
#include <cstdio>
#include <queue>

#include "worker/trainer/text/unicode.h"
#include "worker/trainer/text/word_cache.h"

namespace liger::trainer {
namespace {

// Up to this many symbols a scan for the lowest rank beats a heap.
constexpr size_t kShortWord = 32;

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

bool HasLowerRank(uint64_t a, uint64_t b) { return a >> 32 < b >> 32; }

int32_t JoinedId(uint64_t merge) { return static_cast<int32_t>(merge & 0xFFFFFFFF); }

// A symbol in the doubly linked list of MergeLong.
struct Link {
  int32_t id;
  int32_t previous, next;  // -1 at the ends
  bool alive;
};

struct Candidate {
  uint64_t merge;  // rank first, so that the order is by rank, then position
  int32_t at;
  bool operator>(const Candidate& other) const {
    return merge >> 32 != other.merge >> 32 ? merge > other.merge : at > other.at;
  }
};

}  // namespace

void BpeConfig::AddSplits(std::string_view token, int32_t rank) {
  const int32_t joined = *vocabulary.Find(token);
  const char* const begin = token.data();
  const char* const end = begin + token.size();
  for (const char* p = begin + unicode::Utf8Length(*begin); p < end; p += unicode::Utf8Length(*p)) {
    const auto left = vocabulary.Find(std::string_view(begin, p - begin));
    if (!left) continue;
    const auto right = vocabulary.Find(std::string_view(p, end - p));
    if (right) merges.push_back({*left, *right, joined, rank});
  }
}

struct BpeModel::Scratch : ModelScratch {
  WordCache cache;
  std::vector<int32_t> symbols;
  std::vector<uint64_t> merges;  // of symbols[i] and symbols[i + 1]
  std::vector<Link> links;
};

BpeModel::BpeModel(BpeConfig config) : config_(std::move(config)) {
  merges_.reserve(config_.merges.size());
  for (const BpeConfig::Merge& m : config_.merges) {
    merges_[PairKey(m.left, m.right)] =
        uint64_t{static_cast<uint32_t>(m.rank)} << 32 | static_cast<uint32_t>(m.joined);
  }
  for (char32_t c = 0; c < low_characters_.size(); ++c) {
    std::string character;
    unicode::AppendUtf8(c, &character);
    low_characters_[c] = config_.vocabulary.Find(character).value_or(-1);
  }
  for (int b = 0; b < 256; ++b) {
    char token[8];
    std::snprintf(token, sizeof(token), "<0x%02X>", b);
    byte_tokens_[b] = config_.vocabulary.Find(token).value_or(-1);
  }
}

std::unique_ptr<ModelScratch> BpeModel::NewScratch() const { return std::make_unique<Scratch>(); }

uint64_t BpeModel::FindMerge(int32_t left, int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? kNoMerge : it->second;
}

void BpeModel::Tokenize(std::string_view piece, ModelScratch* scratch,
                        std::vector<int32_t>* ids) const {
  auto* own = static_cast<Scratch*>(scratch);
  if (own->cache.Find(piece, ids)) return;
  const size_t before = ids->size();
  TokenizeUncached(piece, own, ids);
  own->cache.Insert(piece, std::span<const int32_t>(*ids).subspan(before));
}

void BpeModel::TokenizeUncached(std::string_view piece, Scratch* scratch,
                                std::vector<int32_t>* ids) const {
  if (config_.ignore_merges) {
    if (const std::optional<int32_t> id = config_.vocabulary.Find(piece)) {
      ids->push_back(*id);
      return;
    }
  }
  scratch->symbols.clear();
  InitialSymbols(piece, &scratch->symbols);
  if (scratch->symbols.size() <= kShortWord) {
    MergeShort(scratch);
  } else {
    MergeLong(scratch);
  }
  ids->insert(ids->end(), scratch->symbols.begin(), scratch->symbols.end());
}

std::string_view BpeModel::WithAffixes(std::string_view character, bool first, bool last,
                                       std::string* storage) const {
  const bool prefixed = !first && !config_.continuing_subword_prefix.empty();
  const bool suffixed = last && !config_.end_of_word_suffix.empty();
  if (!prefixed && !suffixed) return character;
  storage->assign(prefixed ? config_.continuing_subword_prefix : "").append(character);
  if (suffixed) *storage += config_.end_of_word_suffix;
  return *storage;
}

std::optional<int32_t> BpeModel::SymbolId(std::string_view symbol) const {
  const char* p = symbol.data();
  const char32_t c = unicode::NextCodePoint(p);
  const bool is_low = p == symbol.data() + symbol.size() && c < low_characters_.size();
  if (!is_low) return config_.vocabulary.Find(symbol);
  return low_characters_[c] < 0 ? std::nullopt : std::optional(low_characters_[c]);
}

bool BpeModel::AppendBytes(std::string_view symbol, std::vector<int32_t>* symbols) const {
  const auto has_token = [&](char b) { return byte_tokens_[static_cast<unsigned char>(b)] >= 0; };
  if (!std::all_of(symbol.begin(), symbol.end(), has_token)) return false;
  for (const char b : symbol) symbols->push_back(byte_tokens_[static_cast<unsigned char>(b)]);
  return true;
}

void BpeModel::InitialSymbols(std::string_view piece, std::vector<int32_t>* symbols) const {
  // An unknown token is held back, so that fuse_unk can join it with the next;
  // byte fallback does not release it, just as in `tokenizers`.
  bool unk_pending = false;
  std::string storage;
  for (const char *p = piece.data(), *end = p + piece.size(); p < end;) {
    const char* next = p + unicode::Utf8Length(*p);
    const std::string_view symbol = WithAffixes(std::string_view(p, next - p), p == piece.data(),
                                                next == end, &storage);
    p = next;
    if (const std::optional<int32_t> id = SymbolId(symbol)) {
      if (unk_pending) symbols->push_back(*config_.unk_id);
      unk_pending = false;
      symbols->push_back(*id);
    } else if (config_.byte_fallback && AppendBytes(symbol, symbols)) {
      continue;
    } else if (config_.unk_id) {
      if (unk_pending && !config_.fuse_unk) symbols->push_back(*config_.unk_id);
      unk_pending = true;
    }
  }
  if (unk_pending) symbols->push_back(*config_.unk_id);
}

void BpeModel::MergeShort(Scratch* scratch) const {
  std::vector<int32_t>& symbols = scratch->symbols;
  std::vector<uint64_t>& merges = scratch->merges;
  merges.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    merges.push_back(FindMerge(symbols[i], symbols[i + 1]));
  }
  while (!merges.empty()) {
    // The leftmost of equal ranks, as min_element gives it.
    const auto best = std::min_element(merges.begin(), merges.end(), HasLowerRank);
    if (*best == kNoMerge) break;
    const size_t i = best - merges.begin();
    symbols[i] = JoinedId(*best);
    symbols.erase(symbols.begin() + i + 1);
    merges.erase(best);
    if (i > 0) merges[i - 1] = FindMerge(symbols[i - 1], symbols[i]);
    if (i < merges.size()) merges[i] = FindMerge(symbols[i], symbols[i + 1]);
  }
}

void BpeModel::MergeLong(Scratch* scratch) const {
  std::vector<Link>& links = scratch->links;
  const auto n = static_cast<int32_t>(scratch->symbols.size());
  links.clear();
  for (int32_t i = 0; i < n; ++i) {
    links.push_back({scratch->symbols[i], i - 1, i + 1 < n ? i + 1 : -1, true});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](int32_t at) {
    if (at < 0 || links[at].next < 0) return;
    const uint64_t merge = FindMerge(links[at].id, links[links[at].next].id);
    if (merge != kNoMerge) queue.push({merge, at});
  };
  for (int32_t i = 0; i < n; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Link& left = links[top.at];
    // An entry is stale when one of its symbols has been joined since.
    if (!left.alive || left.next < 0) continue;
    Link& right = links[left.next];
    if (FindMerge(left.id, right.id) != top.merge) continue;
    left.id = JoinedId(top.merge);
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) links[left.next].previous = top.at;
    consider(left.previous);
    consider(top.at);
  }
  scratch->symbols.clear();
  for (int32_t i = 0; i >= 0; i = links[i].next) scratch->symbols.push_back(links[i].id);
}

}  // namespace liger::trainer
