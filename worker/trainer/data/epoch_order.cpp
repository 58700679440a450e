#include "worker/trainer/data/epoch_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "worker/trainer/data/random.h"

namespace liger::trainer {
namespace {

constexpr int64_t kMostMegabatchRows = 1024;

std::vector<int64_t> Numbers(int64_t n) {
  std::vector<int64_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// Keeps the passes over a source apart from each other, from other sources' and
// from the epochs' shuffles.
int64_t SourceStream(size_t source, int64_t pass) {
  return static_cast<int64_t>(uint64_t{1} << 63 | uint64_t{source} << 40 |
                              static_cast<uint64_t>(pass));
}

// The epoch's rows of one source.
std::vector<int64_t> PartRows(const MixPart& part, size_t source, bool shuffle, uint64_t data_seed,
                              int64_t epoch) {
  const int64_t n = part.end - part.begin;
  std::vector<int64_t> rows, pass_order;
  for (int64_t draw = epoch * part.take; draw < (epoch + 1) * part.take; ++draw) {
    if (pass_order.empty() || draw % n == 0) {
      pass_order = shuffle ? EpochOrder(n, data_seed, SourceStream(source, draw / n)) : Numbers(n);
    }
    rows.push_back(part.begin + pass_order[draw % n]);
  }
  return rows;
}

// Each source's rows at even distances.
std::vector<int64_t> Interleaved(const std::vector<std::vector<int64_t>>& parts) {
  std::vector<std::pair<double, int64_t>> placed;
  for (const auto& rows : parts) {
    for (size_t i = 0; i < rows.size(); ++i) {
      placed.emplace_back((double(i) + 0.5) / double(rows.size()), rows[i]);
    }
  }
  std::stable_sort(placed.begin(), placed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<int64_t> order;
  for (const auto& [place, row] : placed) order.push_back(row);
  return order;
}

}  // namespace

std::vector<int64_t> EpochOrder(int64_t n, uint64_t data_seed, int64_t epoch) {
  std::vector<int64_t> order = Numbers(n);
  CounterRandom random(data_seed, static_cast<uint64_t>(epoch));
  for (int64_t i = n - 1; i > 0; --i) {  // Fisher-Yates
    std::swap(order[i], order[random.Below(static_cast<uint64_t>(i) + 1)]);
  }
  return order;
}

int64_t EpochSize(const ExampleSet& set) {
  if (set.mix.empty()) return set.num_rows();
  int64_t size = 0;
  for (const MixPart& part : set.mix) size += part.take;
  return size;
}

std::vector<int64_t> EpochRows(const ExampleSet& set, bool shuffle, uint64_t data_seed,
                               int64_t epoch) {
  if (set.mix.empty()) {
    return shuffle ? EpochOrder(set.num_rows(), data_seed, epoch) : Numbers(set.num_rows());
  }
  std::vector<std::vector<int64_t>> parts;
  for (size_t i = 0; i < set.mix.size(); ++i) {
    parts.push_back(PartRows(set.mix[i], i, shuffle, data_seed, epoch));
  }
  std::vector<int64_t> rows = Interleaved(parts);
  if (!shuffle) return rows;
  std::vector<int64_t> order = EpochOrder(std::ssize(rows), data_seed, epoch);
  for (int64_t& place : order) place = rows[place];
  return order;
}

int64_t MegabatchRows(int64_t n) {
  int64_t rows = 1;
  while (rows * 2 <= std::min(kMostMegabatchRows, n / 4)) rows *= 2;
  return rows;
}

std::vector<int64_t> GroupedByLength(std::vector<int64_t> order,
                                     const std::function<int64_t(int64_t row)>& length) {
  const int64_t n = std::ssize(order);
  std::vector<std::pair<int64_t, int64_t>> rows;  // length, row
  for (const int64_t row : order) rows.emplace_back(length(row), row);
  const auto longer = [](const auto& a, const auto& b) { return a.first > b.first; };
  const int64_t megabatch = MegabatchRows(n);
  int64_t longest = 0;
  for (int64_t begin = 0; begin < n; begin += megabatch) {
    std::stable_sort(rows.begin() + begin, rows.begin() + std::min(n, begin + megabatch), longer);
    if (longer(rows[begin], rows[longest])) longest = begin;
  }
  if (n > 0) std::swap(rows[0], rows[longest]);
  for (int64_t i = 0; i < n; ++i) order[i] = rows[i].second;
  return order;
}

std::vector<int64_t> MixShares(std::span<const int64_t> sizes, std::span<const double> weights) {
  const double rows = double(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
  const double weight = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> shares;
  std::vector<std::pair<double, size_t>> remainders;
  double left = rows;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double exact = rows * weights[i] / weight;
    shares.push_back(static_cast<int64_t>(std::floor(exact)));
    remainders.emplace_back(exact - std::floor(exact), i);
    left -= std::floor(exact);
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (size_t i = 0; i < remainders.size() && left >= 0.5; ++i, left -= 1) {
    ++shares[remainders[i].second];
  }
  for (int64_t& share : shares) share = std::max<int64_t>(share, 1);
  return shares;
}

}  // namespace liger::trainer
