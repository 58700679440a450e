#ifndef LIGER_CLIENT_REPORT_REPORT_H_
#define LIGER_CLIENT_REPORT_REPORT_H_

#include <string>
#include <vector>

#include "client/report/report_data.h"

namespace liger::client {

// The comparison as lines for a terminal of so many columns (0: any).
std::string ReportTable(const ReportData& data, int columns);

// One page that needs nothing but itself.
std::string ReportHtml(const ReportData& data);

// Every logged step of every job, a line each; and every job, a line each.
std::string StepsCsv(const ReportData& data);
std::string JobsCsv(const ReportData& data);
// All of it, and the numbers that the page shows.
std::string ReportJson(const ReportData& data);

// Writes report.html, jobs.csv, steps.csv and report.json into `folder`, which is
// made. Returns their paths, the page first. Throws CliError.
std::vector<std::string> WriteReport(const ReportData& data, const std::string& folder);

}  // namespace liger::client

#endif  // LIGER_CLIENT_REPORT_REPORT_H_
