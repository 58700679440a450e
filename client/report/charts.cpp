#include "client/report/charts.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"
#include "client/report/plot.h"
#include "client/report/statistics.h"

namespace liger::client {
namespace {

// Powers of 1000, as all sizes that are shown.
constexpr double kMegabyte = 1e6;
constexpr double kGigabyte = 1e9;
constexpr double kDotRadius = 3.5;
constexpr size_t kMostDots = 120;  // of one box
constexpr size_t kMostWords = 12;  // beside each other
constexpr double kBoxWidth = 18;

// The points with one combination of the other axes; their place on the x axis is
// their place here.
struct Facet {
  std::string name;
  std::vector<int> points;
};

std::vector<Facet> FacetsOf(const ReportData& data) {
  std::vector<Facet> facets;
  for (size_t i = 0; i < data.points.size(); ++i) {
    const std::string& name = data.points[i].facet;
    auto found = std::find_if(facets.begin(), facets.end(),
                              [&name](const Facet& facet) { return facet.name == name; });
    if (found == facets.end()) found = facets.insert(facets.end(), Facet{name, {}});
    found->points.push_back(static_cast<int>(i));
  }
  return facets;
}

std::string Caption(const std::string& what, const Facet& facet) {
  return facet.name.empty() ? what : absl::StrCat(what, ", ", facet.name);
}

std::string SeriesClass(size_t series) { return absl::StrCat("s", series % 4); }

// Places of the series of one x beside each other.
double Shift(size_t series, size_t count, double apart) {
  return (static_cast<double>(series) - static_cast<double>(count - 1) / 2) * apart;
}

class Range {
 public:
  void Add(double value) {
    if (!std::isfinite(value)) return;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  bool empty() const { return low_ > high_; }
  double low() const { return low_; }
  double high() const { return high_; }
  double margin() const { return std::max((high_ - low_) * 0.06, std::abs(high_) * 1e-4); }

 private:
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
};

Plot CategoryPlot(const std::string& title, const ReportData& data, const Facet& facet,
                  double y_min, double y_max) {
  std::vector<Plot::Tick> ticks;
  for (size_t i = 0; i < facet.points.size(); ++i) {
    ticks.push_back({static_cast<double>(i), data.points[facet.points[i]].x});
  }
  return Plot(title, -0.5, static_cast<double>(facet.points.size()) - 0.5, std::move(ticks), y_min,
              y_max);
}

// A line a series with error bars of one standard deviation, and OOM where a
// series did not fit.
std::vector<Chart> GridCharts(const ReportData& data, const std::string& what,
                              const std::function<Spread(const Cell&)>& value) {
  std::vector<Chart> charts;
  for (const Facet& facet : FacetsOf(data)) {
    Range range;
    range.Add(0);
    bool any = false;
    for (const int point : facet.points) {
      for (size_t s = 0; s < data.series.size(); ++s) {
        const Cell cell = CellOf(data, point, static_cast<int>(s));
        const Spread spread = value(cell);
        any |= spread.count > 0 || cell.out_of_memory > 0;
        if (spread.count > 0) range.Add(spread.mean + spread.deviation);
      }
    }
    if (!any) continue;
    const double top = range.high() > 0 ? range.high() * 1.08 : 1;
    Plot plot = CategoryPlot(Caption(what, facet), data, facet, 0, top);
    for (size_t s = 0; s < data.series.size(); ++s) {
      const double shift = Shift(s, data.series.size(), 8);
      std::vector<std::pair<double, double>> line;
      for (size_t i = 0; i < facet.points.size(); ++i) {
        const double x = static_cast<double>(i);
        const Cell cell = CellOf(data, facet.points[i], static_cast<int>(s));
        const Spread spread = value(cell);
        const std::string at =
            absl::StrCat(data.series[s], ", ", data.points[facet.points[i]].label, ": ");
        if (cell.out_of_memory > 0) {
          // As a dot on the axis where words would run into each other.
          if (facet.points.size() > kMostWords) {
            plot.Dot(x, 0, kDotRadius, SeriesClass(s), at + "out of memory",
                     Shift(s, data.series.size(), 8));
          } else {
            plot.Note(x, static_cast<int>(s), "OOM", SeriesClass(s), at + "out of memory");
          }
        }
        line.emplace_back(x, spread.count > 0 ? spread.mean : NAN);
        if (spread.count == 0) continue;
        if (spread.deviation > 0) {
          plot.Whisker(x, spread.mean - spread.deviation, spread.mean + spread.deviation,
                       SeriesClass(s), shift);
        }
        plot.Dot(x, spread.mean, kDotRadius, SeriesClass(s),
                 absl::StrCat(at, Number(spread.mean), " ± ", Number(spread.deviation), " of ",
                              spread.count, " runs"),
                 shift);
      }
      if (facet.points.size() > 1) plot.Line(line, SeriesClass(s), shift);
    }
    charts.push_back({Caption(what, facet), "", plot.ToSvg()});
  }
  return charts;
}

// Quartiles as a box, the whole range as a whisker, steps as dots.
void DrawTimes(const std::vector<double>& sorted, double x, double shift, double width,
               size_t series, const std::string& name, Plot* plot) {
  const double low = Quantile(sorted, 0.25);
  const double high = Quantile(sorted, 0.75);
  const double median = Quantile(sorted, 0.5);
  plot->Whisker(x, sorted.front(), sorted.back(), SeriesClass(series), shift);
  plot->Box(x, low, high, width, SeriesClass(series),
            absl::StrFormat("%s: median %s s, quartiles %s and %s s, %d steps", name,
                            Number(median), Number(low), Number(high), sorted.size()),
            shift);
  plot->Box(x, median, median, width, SeriesClass(series) + " median", "", shift);
  const size_t count = std::min(sorted.size(), kMostDots);
  for (size_t i = 0; i < count; ++i) {
    const size_t index = count == sorted.size() ? i : i * (sorted.size() - 1) / (count - 1);
    // Spread sideways by turns, so that equal times stay apart.
    const double aside = (static_cast<double>(i % 5) - 2) * width / 6;
    plot->Dot(x, sorted[index], 1.4, SeriesClass(series) + " small", "", shift + aside);
  }
}

std::vector<double> StepTimes(const ReportData& data, int point, int series) {
  std::vector<double> times;
  for (const RunData* run : data.Of(point, series)) {
    for (const StepData& step : TimedSteps(*run)) {
      if (step.seconds > 0) times.push_back(step.seconds);
    }
  }
  std::sort(times.begin(), times.end());
  return times;
}

std::vector<Plot::Tick> StepTicks(const Range& steps) {
  std::vector<Plot::Tick> ticks;
  for (const Plot::Tick& tick : NiceTicks(steps.low(), steps.high(), 6)) {
    if (std::abs(tick.at - std::round(tick.at)) < 1e-9) {
      ticks.push_back({tick.at, absl::StrFormat("%.0f", tick.at)});
    }
  }
  return ticks;
}

std::string GapNote(const ReportData& data, int point) {
  if (data.series.size() != 2) return "";
  const std::optional<LossGap> gap = LargestLossGap(data, point, 0, 1);
  if (!gap.has_value()) return "no step has a loss in both";
  return absl::StrFormat("largest difference %s (%.2g %%), at step %d of run %d",
                         Number(gap->largest), gap->relative * 100, gap->step, gap->run + 1);
}

}  // namespace

std::vector<Chart> SpeedCharts(const ReportData& data) {
  return GridCharts(data, absl::StrCat("tokens/s against ", data.x_title),
                    [](const Cell& cell) { return cell.tokens_per_second; });
}

std::vector<Chart> MemoryCharts(const ReportData& data) {
  double most = 0;
  for (size_t point = 0; point < data.points.size(); ++point) {
    for (size_t s = 0; s < data.series.size(); ++s) {
      most = std::max(most,
                      CellOf(data, static_cast<int>(point), static_cast<int>(s)).peak_bytes.mean);
    }
  }
  const double unit = most >= kGigabyte ? kGigabyte : kMegabyte;
  const std::string kind = MemoryKind(data);
  if (kind.empty()) return {};
  return GridCharts(data,
                    absl::StrCat("peak memory (", kind, ") in ", unit == kGigabyte ? "GB" : "MB",
                                 " against ", data.x_title),
                    [unit](const Cell& cell) {
                      Spread spread = cell.peak_bytes;
                      spread.mean /= unit;
                      spread.deviation /= unit;
                      return spread;
                    });
}

std::vector<Chart> RatioCharts(const ReportData& data) {
  std::vector<Chart> charts;
  if (data.series.size() != 2) return charts;
  for (const Facet& facet : FacetsOf(data)) {
    Range range;
    range.Add(1);
    std::vector<std::optional<Interval>> ratios;
    for (const int point : facet.points) {
      ratios.push_back(SpeedRatio(data, point, 0, 1));
      if (!ratios.back().has_value()) continue;
      range.Add(ratios.back()->low);
      range.Add(ratios.back()->high);
    }
    if (std::none_of(ratios.begin(), ratios.end(), [](const auto& r) { return r.has_value(); })) {
      continue;
    }
    const std::string what =
        Caption(absl::StrCat("tokens/s of ", data.series[0], " over ", data.series[1]), facet);
    Plot plot = CategoryPlot(what, data, facet, range.low() - range.margin(),
                             range.high() + range.margin());
    plot.Rule(1, "one");
    for (size_t i = 0; i < ratios.size(); ++i) {
      if (!ratios[i].has_value()) continue;
      const Interval& ratio = *ratios[i];
      const double x = static_cast<double>(i);
      plot.Whisker(x, ratio.low, ratio.high, "s0");
      plot.Dot(
          x, ratio.ratio, kDotRadius, "s0",
          absl::StrFormat("%s: %.3f, 95 %% interval %.3f to %.3f",
                          data.points[facet.points[i]].label, ratio.ratio, ratio.low, ratio.high));
    }
    charts.push_back({what, "95 % bootstrap interval over runs and steps", plot.ToSvg()});
  }
  return charts;
}

std::vector<Chart> StepTimeCharts(const ReportData& data) {
  std::vector<Chart> charts;
  for (const Facet& facet : FacetsOf(data)) {
    Range range;
    for (const int point : facet.points) {
      for (size_t s = 0; s < data.series.size(); ++s) {
        for (const double time : StepTimes(data, point, static_cast<int>(s))) range.Add(time);
      }
    }
    if (range.empty()) continue;
    const std::string what = Caption(absl::StrCat("seconds a step against ", data.x_title), facet);
    Plot plot = CategoryPlot(what, data, facet, std::max(0.0, range.low() - range.margin()),
                             range.high() + range.margin());
    // Room for the boxes of all points.
    const double apart =
        std::min(26.0, 360.0 / static_cast<double>(facet.points.size() * data.series.size()));
    for (size_t i = 0; i < facet.points.size(); ++i) {
      for (size_t s = 0; s < data.series.size(); ++s) {
        const std::vector<double> times = StepTimes(data, facet.points[i], static_cast<int>(s));
        if (times.empty()) continue;
        DrawTimes(times, static_cast<double>(i), Shift(s, data.series.size(), apart),
                  std::min(kBoxWidth, apart * 0.8), s,
                  absl::StrCat(data.series[s], ", ", data.points[facet.points[i]].label), &plot);
      }
    }
    charts.push_back(
        {what, "box: quartiles; whisker: all steps but each run's first", plot.ToSvg()});
  }
  return charts;
}

std::vector<Chart> LossCharts(const ReportData& data) {
  std::vector<Chart> charts;
  for (int point = 0; point < static_cast<int>(data.points.size()); ++point) {
    if (static_cast<int>(charts.size()) == kMostLossCharts) break;
    Range losses;
    Range steps;
    for (const RunData& run : data.runs) {
      if (run.point != point) continue;
      for (const StepData& step : run.steps) {
        if (!std::isfinite(step.loss)) continue;
        losses.Add(step.loss);
        steps.Add(static_cast<double>(step.step));
      }
    }
    if (losses.empty()) continue;
    const std::string what = absl::StrCat("loss by step, ", data.points[point].label);
    Plot plot(what, steps.low(), steps.high(), StepTicks(steps), losses.low() - losses.margin(),
              losses.high() + losses.margin());
    for (size_t s = 0; s < data.series.size(); ++s) {
      for (const RunData* run : data.Of(point, static_cast<int>(s))) {
        std::vector<std::pair<double, double>> line;
        for (const StepData& step : run->steps) {
          line.emplace_back(static_cast<double>(step.step), step.loss);
        }
        plot.Line(line, absl::StrCat(SeriesClass(s), s == 0 ? "" : " dashed"));
        // A line of one step is no line.
        if (line.size() == 1 && std::isfinite(line[0].second)) {
          plot.Dot(line[0].first, line[0].second, kDotRadius, SeriesClass(s), run->job_name);
        }
      }
    }
    charts.push_back({what, GapNote(data, point), plot.ToSvg()});
  }
  return charts;
}

}  // namespace liger::client
