#include "worker/trainer/data/packing.h"

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <stdexcept>

namespace liger::trainer {
namespace {

// Best fit, decreasing, of sequences [begin, end).
void PackBestFit(std::span<const int64_t> lengths, int64_t begin, int64_t end, int64_t max_length,
                 std::vector<Pack>* packs) {
  const auto length_of = [&](int64_t i) { return std::min(lengths[i], max_length); };
  std::vector<int64_t> order(end - begin);
  std::iota(order.begin(), order.end(), begin);
  std::erase_if(order, [&](int64_t i) { return lengths[i] <= 0; });
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return length_of(a) > length_of(b); });
  std::map<int64_t, std::deque<size_t>> packs_by_room;  // a queue each: first come, first filled
  for (const int64_t i : order) {
    const int64_t length = length_of(i);
    const auto fit = packs_by_room.lower_bound(length);
    int64_t room = max_length;
    size_t pack = packs->size();
    if (fit == packs_by_room.end()) {
      packs->emplace_back();
    } else {
      room = fit->first;
      pack = fit->second.front();
      fit->second.pop_front();
      if (fit->second.empty()) packs_by_room.erase(fit);
    }
    (*packs)[pack].push_back({i, 0, length});
    if (room > length) packs_by_room[room - length].push_back(pack);
  }
}

// The tokens of sequences [begin, end), cut every max_length.
void PackWrapped(std::span<const int64_t> lengths, int64_t begin, int64_t end, int64_t max_length,
                 std::vector<Pack>* packs) {
  int64_t room = 0;
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t at = 0; at < lengths[i];) {
      if (room == 0) {
        packs->emplace_back();
        room = max_length;
      }
      const int64_t take = std::min(room, lengths[i] - at);
      packs->back().push_back({i, at, at + take});
      at += take;
      room -= take;
    }
  }
}

Example Cut(const Example& whole, const Piece& piece) {
  return {whole.input_ids.Slice(piece.begin, piece.end),
          whole.labels.Slice(piece.begin, piece.end)};
}

bool HasTarget(const Example& whole, const Piece& piece) {
  return std::any_of(whole.labels.begin() + piece.begin + 1, whole.labels.begin() + piece.end,
                     [](int32_t label) { return label != kIgnoredLabel; });
}

}  // namespace

PackingStrategy ParsePackingStrategy(const std::string& name) {
  if (name.empty() || name == "bfd") return PackingStrategy::kBfd;
  if (name == "wrapped") return PackingStrategy::kWrapped;
  throw std::invalid_argument("no packing strategy " + name);
}

std::vector<Pack> MakePacks(std::span<const int64_t> lengths, int64_t max_length,
                            PackingStrategy strategy) {
  std::vector<Pack> packs;
  const int64_t n = std::ssize(lengths);
  for (int64_t begin = 0; begin < n; begin += kPackingBlock) {
    const int64_t end = std::min(n, begin + kPackingBlock);
    if (strategy == PackingStrategy::kWrapped) {
      PackWrapped(lengths, begin, end, max_length, &packs);
    } else {
      PackBestFit(lengths, begin, end, max_length, &packs);
    }
  }
  return packs;
}

int64_t PackRows(PackingStrategy strategy, int64_t max_length, ExampleSet* set) {
  std::vector<int64_t> lengths;
  for (const Example& sequence : set->sequences) lengths.push_back(std::ssize(sequence.input_ids));
  std::vector<Example> pieces;
  std::vector<int64_t> begins = {0};
  int64_t left_out = 0;
  for (const Pack& pack : MakePacks(lengths, max_length, strategy)) {
    const auto trains = [&](const Piece& p) { return HasTarget(set->sequences[p.sequence], p); };
    if (std::none_of(pack.begin(), pack.end(), trains)) {
      ++left_out;
      continue;
    }
    for (const Piece& piece : pack) {
      Example& whole = set->sequences[piece.sequence];
      const bool is_whole = piece.end - piece.begin == lengths[piece.sequence];
      pieces.push_back(is_whole ? std::move(whole) : Cut(whole, piece));
    }
    begins.push_back(std::ssize(pieces));
  }
  set->sequences = std::move(pieces);
  set->pack_begins = std::move(begins);
  set->max_length = max_length;
  return left_out;
}

}  // namespace liger::trainer
