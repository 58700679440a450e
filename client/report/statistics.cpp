#include "client/report/statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace liger::client {
namespace {

constexpr int kResamples = 2000;
constexpr uint64_t kSeed = 20260101;

// One step that two runs have in common.
struct StepPair {
  double tokens_above, seconds_above, tokens_below, seconds_below;
};
using RunPair = std::vector<StepPair>;

RunPair PairSteps(const RunData& above, const RunData& below) {
  std::map<int64_t, StepData> by_step;
  for (const StepData& step : TimedSteps(below)) by_step[step.step] = step;
  RunPair pairs;
  for (const StepData& step : TimedSteps(above)) {
    const auto other = by_step.find(step.step);
    if (other == by_step.end()) continue;
    pairs.push_back({step.tokens(), step.seconds, other->second.tokens(), other->second.seconds});
  }
  return pairs;
}

std::vector<std::pair<const RunData*, const RunData*>> MeasuredInBoth(const ReportData& data,
                                                                      int point, int first,
                                                                      int second) {
  std::vector<std::pair<const RunData*, const RunData*>> both;
  for (const RunData* a : data.Of(point, first)) {
    if (!a->measured()) continue;
    for (const RunData* b : data.Of(point, second)) {
      if (b->run == a->run && b->measured()) both.emplace_back(a, b);
    }
  }
  return both;
}

// Speeds of one run's steps on both sides.
struct SpeedPair {
  double above = 0, below = 0;
};

template <typename Draw>
SpeedPair SpeedsOf(const RunPair& run, Draw draw) {
  StepPair sum{};
  for (size_t i = 0; i < run.size(); ++i) {
    const StepPair& pair = run[draw(i)];
    sum.tokens_above += pair.tokens_above;
    sum.seconds_above += pair.seconds_above;
    sum.tokens_below += pair.tokens_below;
    sum.seconds_below += pair.seconds_below;
  }
  if (sum.seconds_above <= 0 || sum.seconds_below <= 0) return {};
  return {sum.tokens_above / sum.seconds_above, sum.tokens_below / sum.seconds_below};
}

// Of the mean speeds, as the table shows them.
double Ratio(const std::vector<SpeedPair>& runs) {
  SpeedPair sum;
  for (const SpeedPair& run : runs) {
    sum.above += run.above;
    sum.below += run.below;
  }
  return sum.below > 0 ? sum.above / sum.below : 0;
}

}  // namespace

Spread SpreadOf(const std::vector<double>& values) {
  Spread spread;
  spread.count = static_cast<int>(values.size());
  if (values.empty()) return spread;
  for (const double value : values) spread.mean += value / spread.count;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  if (spread.count > 1) spread.deviation = std::sqrt(squares / (spread.count - 1));
  return spread;
}

double Quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::vector<StepData> TimedSteps(const RunData& run) {
  if (run.steps.size() < 2) return run.steps;
  return {run.steps.begin() + 1, run.steps.end()};
}

double TokensPerSecond(const RunData& run) {
  double tokens = 0;
  double seconds = 0;
  for (const StepData& step : TimedSteps(run)) {
    tokens += step.tokens();
    seconds += step.seconds;
  }
  return seconds > 0 ? tokens / seconds : 0;
}

std::string MemoryKind(const ReportData& data) {
  for (const char* kind : {"reserved", "allocated", "rss"}) {
    for (const RunData& run : data.runs) {
      if (run.peak_memory_bytes.contains(kind)) return kind;
    }
  }
  return "";
}

std::optional<Interval> SpeedRatio(const ReportData& data, int point, int above, int below) {
  std::vector<RunPair> runs;
  std::vector<SpeedPair> speeds;
  for (const auto& [a, b] : MeasuredInBoth(data, point, above, below)) {
    RunPair run = PairSteps(*a, *b);
    if (run.empty()) continue;
    speeds.push_back(SpeedsOf(run, [](size_t i) { return i; }));
    runs.push_back(std::move(run));
  }
  Interval interval;
  interval.ratio = Ratio(speeds);
  interval.runs = static_cast<int>(runs.size());
  if (interval.ratio <= 0) return std::nullopt;
  // The engine's numbers are the standard's, a distribution's are not.
  std::mt19937_64 engine(kSeed);
  const auto draw = [&engine](size_t count) { return static_cast<size_t>(engine() % count); };
  std::vector<double> ratios;
  for (int i = 0; i < kResamples; ++i) {
    for (SpeedPair& drawn : speeds) {
      const RunPair& run = runs[draw(runs.size())];
      drawn = SpeedsOf(run, [&](size_t) { return draw(run.size()); });
    }
    ratios.push_back(Ratio(speeds));
  }
  std::sort(ratios.begin(), ratios.end());
  interval.low = Quantile(ratios, 0.025);
  interval.high = Quantile(ratios, 0.975);
  return interval;
}

std::optional<LossGap> LargestLossGap(const ReportData& data, int point, int first, int second) {
  std::optional<LossGap> gap;
  for (const auto& [a, b] : MeasuredInBoth(data, point, first, second)) {
    std::map<int64_t, double> losses;
    for (const StepData& step : b->steps) losses[step.step] = step.loss;
    for (const StepData& step : a->steps) {
      const auto other = losses.find(step.step);
      if (other == losses.end() || std::isnan(step.loss) || std::isnan(other->second)) continue;
      const double difference = std::abs(step.loss - other->second);
      if (gap.has_value() && difference <= gap->largest) continue;
      const double size = std::abs(other->second);
      gap = LossGap{difference, size > 0 ? difference / size : 0, step.step, a->run};
    }
  }
  return gap;
}

Cell CellOf(const ReportData& data, int point, int series) {
  Cell cell;
  const std::string kind = MemoryKind(data);
  std::vector<double> speeds;
  std::vector<double> peaks;
  for (const RunData* run : data.Of(point, series)) {
    switch (run->outcome) {
      case liger::v1::ExperimentJob::SUCCEEDED:
        break;
      case liger::v1::ExperimentJob::OUT_OF_MEMORY:
        ++cell.out_of_memory;
        continue;
      case liger::v1::ExperimentJob::FAILED:
        ++cell.failed;
        continue;
      case liger::v1::ExperimentJob::CANCELLED:
        ++cell.cancelled;
        continue;
      default:
        ++cell.not_over;
        continue;
    }
    if (const double speed = TokensPerSecond(*run); speed > 0) speeds.push_back(speed);
    const auto peak = run->peak_memory_bytes.find(kind);
    if (peak != run->peak_memory_bytes.end()) peaks.push_back(static_cast<double>(peak->second));
  }
  cell.tokens_per_second = SpreadOf(speeds);
  cell.peak_bytes = SpreadOf(peaks);
  return cell;
}

std::string RemainderText(const Cell& cell, bool memory) {
  std::string text;
  const auto add = [&text](int count, const char* what) {
    if (count > 0) absl::StrAppend(&text, text.empty() ? "" : ", ", count, " ", what);
  };
  if (memory) add(cell.out_of_memory, "OOM");
  add(cell.failed, "failed");
  add(cell.cancelled, "cancelled");
  add(cell.not_over, "not over");
  return text;
}

std::string SpeedRatioText(const ReportData& data, int point) {
  const std::optional<Interval> ratio = SpeedRatio(data, point, 0, 1);
  if (!ratio.has_value()) return "";
  std::string text = absl::StrFormat("%.3f (%.3f to %.3f)", ratio->ratio, ratio->low, ratio->high);
  for (const int series : {0, 1}) {
    if (CellOf(data, point, series).tokens_per_second.count == ratio->runs) continue;
    absl::StrAppend(&text, ", ", ratio->runs, ratio->runs == 1 ? " run" : " runs", " of both");
    break;
  }
  return text;
}

}  // namespace liger::client
