#include "worker/trainer/parallel/stragglers.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace liger::trainer {
namespace {

double MedianOfOthers(std::vector<double> seconds, size_t rank) {
  seconds.erase(seconds.begin() + static_cast<std::ptrdiff_t>(rank));
  std::sort(seconds.begin(), seconds.end());
  const size_t half = seconds.size() / 2;
  return seconds.size() % 2 == 1 ? seconds[half] : (seconds[half - 1] + seconds[half]) / 2;
}

}  // namespace

std::string Stragglers::Found::Message() const {
  return absl::StrFormat(
      "rank %d works %.3g s a step, the others %.3g s (median; it takes %.1f times as long, in "
      "each "
      "of %d steps), and all wait for it; look at its host and device (other processes, clocks, "
      "temperature), or at how long its rows are",
      rank, seconds, median, seconds / std::max(median, 1e-9), steps);
}

std::vector<Stragglers::Found> Stragglers::Add(const std::vector<double>& own_seconds) {
  std::vector<Found> found;
  if (own_seconds.size() < 2) return found;
  streaks_.resize(own_seconds.size());
  for (size_t rank = 0; rank < own_seconds.size(); ++rank) {
    Streak& streak = streaks_[rank];
    const double own = own_seconds[rank], median = MedianOfOthers(own_seconds, rank);
    if (own < options_.factor * median || own < median + options_.least_s) {
      const int fine = streak.fine + 1;
      streak = {.fine = fine, .found = streak.found && fine < options_.steps};
      continue;
    }
    streak.fine = 0;
    ++streak.slow;
    streak.seconds += own;
    streak.median += median;
    if (streak.slow < options_.steps || streak.found) continue;
    streak.found = true;
    found.push_back({static_cast<int>(rank), streak.seconds / streak.slow,
                     streak.median / streak.slow, streak.slow});
  }
  return found;
}

}  // namespace liger::trainer
