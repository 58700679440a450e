#ifndef LIGER_CLIENT_REPORT_CHARTS_H_
#define LIGER_CLIENT_REPORT_CHARTS_H_

#include <string>
#include <vector>

#include "client/report/report_data.h"

namespace liger::client {

// One plot of the page.
struct Chart {
  std::string caption;
  std::string note;  // below it; may be empty
  std::string svg;
};

// A chart without data is left out, so each of these may be empty. One chart for
// each combination of the axes that plots are not drawn against, of the losses
// one for each point.
std::vector<Chart> SpeedCharts(const ReportData& data);
std::vector<Chart> MemoryCharts(const ReportData& data);
std::vector<Chart> RatioCharts(const ReportData& data);
std::vector<Chart> StepTimeCharts(const ReportData& data);
// Of the first kMostLossCharts points.
std::vector<Chart> LossCharts(const ReportData& data);
inline constexpr int kMostLossCharts = 24;

}  // namespace liger::client

#endif  // LIGER_CLIENT_REPORT_CHARTS_H_
