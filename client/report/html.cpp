// The report as one page.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/errors.h"
#include "client/format.h"
#include "client/report/charts.h"
#include "client/report/plot.h"
#include "client/report/report.h"
#include "client/report/statistics.h"
#include "common/file.h"
#include "common/version.h"

namespace liger::client {

extern const char kReportCss[];  // report.css

namespace {

using liger::v1::ExperimentJob;

constexpr char kNothing[] = "No job has logged a step, so there is nothing to draw.";

struct Column {
  std::string name;
  std::string css;  // "", "number" or "code"
};

// A table of text; every cell is escaped.
class HtmlTable {
 public:
  explicit HtmlTable(std::vector<Column> columns) : columns_(std::move(columns)) {
    for (const Column& column : columns_) {
      // The name of a field may break, or it would make the widest column.
      absl::StrAppend(&head_, "<th", Class(column), " scope=\"col\">",
                      absl::StrReplaceAll(Escaped(column.name), {{"_", "_<wbr>"}}), "</th>");
    }
  }
  // The first cell belongs to so many `rows`; the ones that follow leave it out.
  void Add(const std::vector<std::string>& cells, size_t rows = 1) {
    const size_t left_out = columns_.size() - cells.size();
    absl::StrAppend(&body_, "<tr>");
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string span = i == 0 && rows > 1 ? absl::StrCat(" rowspan=\"", rows, "\"") : "";
      absl::StrAppend(&body_, "<td", Class(columns_[left_out + i]), span, ">",
                      Escaped(Printable(cells[i])), "</td>");
    }
    absl::StrAppend(&body_, "</tr>\n");
  }
  std::string ToHtml() const {
    return absl::StrCat("<div class=\"scroll\"><table><thead><tr>", head_, "</tr></thead><tbody>\n",
                        body_, "</tbody></table></div>\n");
  }

 private:
  static std::string Class(const Column& column) {
    return column.css.empty() ? "" : absl::StrCat(" class=\"", column.css, "\"");
  }

  std::vector<Column> columns_;
  std::string head_;
  std::string body_;
};

std::string Paragraph(const std::string& text, const std::string& css = "") {
  return absl::StrCat("<p", css.empty() ? "" : absl::StrCat(" class=\"", css, "\""), ">",
                      Escaped(Printable(text)), "</p>\n");
}

std::string Section(const std::string& title, const std::string& content) {
  return absl::StrCat("<section><h2>", Escaped(title), "</h2>\n", content, "</section>\n");
}

std::string Legend(const ReportData& data, bool dashed) {
  std::string html = "<div class=\"legend\">";
  for (size_t s = 0; s < data.series.size(); ++s) {
    absl::StrAppend(&html, "<span><i class=\"s", s % 4, dashed && s > 0 ? " dashed" : "", "\"></i>",
                    Escaped(data.series[s]), "</span>");
  }
  return html + "</div>\n";
}

std::string Figures(const std::vector<Chart>& charts) {
  std::string html = "<div class=\"charts\">\n";
  for (const Chart& chart : charts) {
    absl::StrAppend(&html, "<figure><figcaption>", Escaped(chart.caption));
    if (!chart.note.empty()) absl::StrAppend(&html, "<small>", Escaped(chart.note), "</small>");
    absl::StrAppend(&html, "</figcaption>", chart.svg, "</figure>\n");
  }
  return html + "</div>\n";
}

// Of speed and memory, each as far as there is something to draw.
std::string SpeedSection(const ReportData& data) {
  std::vector<Chart> charts;
  for (const auto& some :
       {SpeedCharts(data), MemoryCharts(data), RatioCharts(data), StepTimeCharts(data)}) {
    charts.insert(charts.end(), some.begin(), some.end());
  }
  const std::string content = charts.empty() ? Paragraph(kNothing, "soft")
                                             : Legend(data, /*dashed=*/false) + Figures(charts);
  return Section("Speed and memory", content);
}

std::string LossSection(const ReportData& data) {
  const std::vector<Chart> charts = LossCharts(data);
  if (charts.empty()) return Section("Loss", Paragraph(kNothing, "soft"));
  std::string content = Legend(data, /*dashed=*/true) + Figures(charts);
  if (static_cast<int>(data.points.size()) > kMostLossCharts) {
    content += Paragraph("The losses of further points are in steps.csv.", "soft");
  }
  return Section("Loss", content);
}

std::string Plain(const Spread& spread) {
  if (spread.count == 0) return "";
  if (spread.count == 1) return absl::StrFormat("%.1f", spread.mean);
  return absl::StrFormat("%.1f ± %.1f", spread.mean, spread.deviation);
}

// Of a grid with one axis its values, below its name.
bool HasOneAxis(const ReportData& data) {
  return std::all_of(data.points.begin(), data.points.end(),
                     [](const PointData& point) { return point.facet.empty(); });
}
Column PointColumn(const ReportData& data) {
  return {HasOneAxis(data) ? data.x_title : "point", ""};
}
std::string PointText(const ReportData& data, int point) {
  return HasOneAxis(data) ? data.points[point].x : data.points[point].label;
}

std::string ComparisonTable(const ReportData& data) {
  const bool pair = data.series.size() == 2;
  std::vector<Column> columns = {
      PointColumn(data), {"kernels", ""},        {"runs", "number"},       {"OOM", "number"},
      {"no result", ""}, {"tokens/s", "number"}, {"peak memory", "number"}};
  if (pair) {
    columns.push_back({"speed ratio (95 %)", "number"});
    columns.push_back({"memory ratio", "number"});
    columns.push_back({"largest loss difference", "number"});
  }
  HtmlTable table(columns);
  for (int point = 0; point < static_cast<int>(data.points.size()); ++point) {
    for (int s = 0; s < static_cast<int>(data.series.size()); ++s) {
      const Cell cell = CellOf(data, point, s);
      std::vector<std::string> row = {
          data.series[s],
          absl::StrCat(cell.tokens_per_second.count),
          absl::StrCat(cell.out_of_memory),
          RemainderText(cell, /*memory=*/false),
          Plain(cell.tokens_per_second),
          cell.peak_bytes.count == 0 ? "" : Bytes(static_cast<int64_t>(cell.peak_bytes.mean))};
      if (pair && s == 0) {
        const auto gap = LargestLossGap(data, point, 0, 1);
        const Cell other = CellOf(data, point, 1);
        row.push_back(SpeedRatioText(data, point));
        row.push_back(cell.peak_bytes.count > 0 && other.peak_bytes.mean > 0
                          ? absl::StrFormat("%.3f", cell.peak_bytes.mean / other.peak_bytes.mean)
                          : "");
        row.push_back(gap ? Number(gap->largest) : "");
      } else if (pair) {
        row.insert(row.end(), 3, "");
      }
      if (s > 0) {
        table.Add(row);
        continue;
      }
      row.insert(row.begin(), PointText(data, point));
      table.Add(row, data.series.size());
    }
  }
  return table.ToHtml();
}

std::string Differences(const ReportData& data) {
  if (data.differences.empty()) return "";
  std::vector<Column> columns = {{"field", "code"}};
  for (const std::string& series : data.series) columns.push_back({series, "code"});
  HtmlTable table(columns);
  for (const Difference& difference : data.differences) {
    std::vector<std::string> row = {difference.field};
    row.insert(row.end(), difference.values.begin(), difference.values.end());
    table.Add(row);
  }
  return Section("These jobs differ in more than the kernels",
                 Paragraph("What the plots show comes from all of these together.", "warning") +
                     table.ToHtml());
}

template <typename Values>
std::string Pairs(const Values& values) {
  const std::map<std::string, std::string> sorted(values.begin(), values.end());
  return absl::StrJoin(sorted, "; ", absl::PairFormatter(" "));
}

// Equal environments are one row, with the number of jobs that ran there.
std::string Environments(const ReportData& data) {
  std::map<std::vector<std::string>, int> rows;
  for (const RunData& run : data.runs) {
    const auto& environment = run.environment;
    if (environment.device().empty()) continue;
    ++rows[{environment.device(), environment.device_model(),
            absl::StrJoin(environment.device_uuids(), " "), environment.host_name(),
            environment.build(), Pairs(environment.versions())}];
  }
  if (rows.empty()) return Paragraph("No job said where it ran.", "soft");
  HtmlTable table({{"device", ""},
                   {"as the worker has it", ""},
                   {"device id", "code"},
                   {"host", ""},
                   {"build", "code"},
                   {"versions", "code"},
                   {"jobs", "number"}});
  for (const auto& [row, count] : rows) {
    std::vector<std::string> cells = row;
    cells.push_back(absl::StrCat(count));
    table.Add(cells);
  }
  return table.ToHtml();
}

// Per op, what each series ran; a series that did not always run the same says so.
std::string Kernels(const ReportData& data) {
  std::map<std::string, std::vector<std::set<std::string>>> ops;
  for (const RunData& run : data.runs) {
    for (const auto& [op, path] : run.kernels_ran) {
      auto& paths = ops[op];
      paths.resize(data.series.size());
      paths[run.series].insert(path);
    }
  }
  if (ops.empty()) return Paragraph("No job said which kernels it ran.", "soft");
  std::vector<Column> columns = {{"op", "code"}};
  for (const std::string& series : data.series) columns.push_back({series, ""});
  HtmlTable table(columns);
  for (const auto& [op, paths] : ops) {
    std::vector<std::string> row = {op};
    for (const auto& of_series : paths) row.push_back(absl::StrJoin(of_series, " and "));
    table.Add(row);
  }
  return table.ToHtml();
}

std::string Jobs(const ReportData& data) {
  HtmlTable table({{"job", "code"},
                   PointColumn(data),
                   {"kernels", ""},
                   {"run", "number"},
                   {"outcome", ""},
                   {"tokens/s", "number"},
                   {"clocks, power, temperature at its start", "code"},
                   {"resolved spec", "code"}});
  for (const RunData& run : data.runs) {
    const double speed = TokensPerSecond(run);
    std::string outcome = ExperimentJob::Outcome_Name(run.outcome);
    if (run.cached) outcome += " (earlier result)";
    if (!run.message.empty()) absl::StrAppend(&outcome, ": ", run.message);
    table.Add({run.job_name, PointText(data, run.point), data.series[run.series],
               absl::StrCat(run.run + 1), outcome, speed > 0 ? absl::StrFormat("%.1f", speed) : "",
               Pairs(run.environment.device_state()), run.spec_hash});
  }
  return table.ToHtml();
}

std::string Proof(const ReportData& data) {
  return absl::StrCat(
      "<h3>Where</h3>\n", Environments(data), "<h3>Kernels that ran, by op</h3>\n", Kernels(data),
      "<h3>Jobs, in the experiment's order; earlier results ran before it</h3>\n", Jobs(data),
      "<h3>What all jobs have in common</h3>\n<pre>", Escaped(data.job_yaml), "</pre>\n");
}

constexpr char kMethod[] =
    "tokens/s: non-padding tokens of a run's logged steps after its first over their time; the "
    "first warms up. Error bars: one standard deviation over runs. Ratio: over the runs and steps "
    "that both have, with a 95 % percentile interval of 2000 two-stage bootstrap resamples (runs, "
    "then steps). OOM: the device or the host ran out of memory, which is a result.";

}  // namespace

std::string ReportHtml(const ReportData& data) {
  std::string body = absl::StrCat("<h1>", Escaped(data.title), "</h1>\n", Paragraph(data.summary),
                                  Differences(data), Section("Comparison", ComparisonTable(data)),
                                  SpeedSection(data), LossSection(data));
  absl::StrAppend(
      &body, Section("What ran", Proof(data)),
      Section("Method and data", Paragraph(kMethod) +
                                     "<p>Beside this page: <a href=\"jobs.csv\">jobs.csv</a>, "
                                     "<a href=\"steps.csv\">steps.csv</a>, "
                                     "<a href=\"report.json\">report.json</a>.</p>\n"),
      Paragraph(
          absl::StrCat("liger-cli ", kVersion, ", ",
                       absl::FormatTime("%Y-%m-%d %H:%M UTC", absl::Now(), absl::UTCTimeZone()),
                       data.uid.empty() ? "" : ", experiment ", data.uid),
          "soft"));
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>",
      Escaped(data.title), "</title>\n<style>\n", kReportCss, "</style></head>\n<body>\n", body,
      "</body></html>\n");
}

std::vector<std::string> WriteReport(const ReportData& data, const std::string& folder) {
  ThrowIfError(MakeFolders(folder));
  std::vector<std::string> paths;
  const auto write = [&](const char* name, const std::string& content) {
    paths.push_back((std::filesystem::path(folder) / name).string());
    ThrowIfError(WriteFileAtomically(paths.back(), content));
  };
  write("report.html", ReportHtml(data));
  write("jobs.csv", JobsCsv(data));
  write("steps.csv", StepsCsv(data));
  write("report.json", ReportJson(data));
  return paths;
}

}  // namespace liger::client
