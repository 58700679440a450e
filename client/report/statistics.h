#ifndef LIGER_CLIENT_REPORT_STATISTICS_H_
#define LIGER_CLIENT_REPORT_STATISTICS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/report/report_data.h"

// The numbers of a report. A run's first logged step warms it up (memory is
// allocated, kernels are loaded), so speeds are of the steps after it, where
// there are any.
namespace liger::client {

struct Spread {
  int count = 0;
  double mean = 0;
  double deviation = 0;  // of a sample (n - 1); 0 for one value
};
Spread SpreadOf(const std::vector<double>& values);

// Linear between order statistics, as NumPy's default; `sorted` is not empty.
double Quantile(const std::vector<double>& sorted, double q);

// Steps that count for speed.
std::vector<StepData> TimedSteps(const RunData& run);
// Tokens of those steps over their time; 0 without any.
double TokensPerSecond(const RunData& run);

// The kind of peak memory that a report shows: what PyTorch had reserved on a
// GPU, else allocated, else the process's resident set. "" when none was told.
std::string MemoryKind(const ReportData& data);

struct Interval {
  double ratio = 0;
  double low = 0;
  double high = 0;
  int runs = 0;  // that both series have; the cells of a series may have more
};

// Mean tokens/s of series `above` over that of `below` at one point, of the runs
// that both have, with its 95 % percentile interval from a two-stage bootstrap:
// runs are drawn, and of each drawn run its steps, the same of both series (the
// same step has the same rows). Seeded: equal data give an equal interval.
// nullopt when no run is measured in both.
std::optional<Interval> SpeedRatio(const ReportData& data, int point, int above, int below);

struct LossGap {
  double largest = 0;   // absolute
  double relative = 0;  // to the second series' loss there
  int64_t step = 0;
  int run = 0;
};
// The largest difference of the losses at equal steps of equal runs.
std::optional<LossGap> LargestLossGap(const ReportData& data, int point, int first, int second);

// What the table has of one point and series.
struct Cell {
  Spread tokens_per_second;
  Spread peak_bytes;
  int out_of_memory = 0;
  int failed = 0;
  int cancelled = 0;
  int not_over = 0;  // runs or has not begun
};
Cell CellOf(const ReportData& data, int point, int series);

// What else than numbers became of its jobs: "1 OOM, 2 failed, 1 not over"; "" when
// each gave some. Without the OOM if not `memory`.
std::string RemainderText(const Cell& cell, bool memory);

// SpeedRatio of the first two series as people read it: "1.513 (1.441 to 1.590)",
// with the number of runs when a cell beside it has others too. "" for none.
std::string SpeedRatioText(const ReportData& data, int point);

}  // namespace liger::client

#endif  // LIGER_CLIENT_REPORT_STATISTICS_H_
