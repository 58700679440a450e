// The report as text: for a terminal, as CSV and as JSON.

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/format.h"
#include "client/report/report.h"
#include "client/report/statistics.h"
#include "nlohmann/json.hpp"

namespace liger::client {
namespace {

using liger::v1::ExperimentJob;

std::string Quoted(const std::string& text) {
  // A formula for a spreadsheet would begin so.
  const bool formula = !text.empty() && std::string("=+-@").find(text[0]) != std::string::npos;
  const bool plain = text.find_first_of(",\"\n\r") == std::string::npos;
  if (plain && !formula) return text;
  return absl::StrCat("\"", formula ? "'" : "", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

std::string Exact(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.9g", value) : "";
}

std::string WithSpread(const Spread& spread, const std::string& mean,
                       const std::string& deviation) {
  if (spread.count == 0) return "-";
  return spread.count == 1 ? mean : absl::StrCat(mean, " ± ", deviation);
}

std::string JobsOf(const ReportData& data, int point, int series, const Cell& cell) {
  const int total = static_cast<int>(data.Of(point, series).size());
  const int others = cell.out_of_memory + cell.failed + cell.cancelled + cell.not_over;
  const std::string rest = RemainderText(cell, /*memory=*/true);
  return absl::StrCat(total - others, "/", total, rest.empty() ? "" : ", ", rest);
}

std::string GapText(const ReportData& data, int point) {
  const std::optional<LossGap> gap = LargestLossGap(data, point, 0, 1);
  return gap.has_value() ? Number(gap->largest) : "";
}

nlohmann::json JsonNumber(double value) {
  if (!std::isfinite(value)) return nullptr;
  return value;
}

nlohmann::json EnvironmentJson(const liger::v1::RunEnvironment& environment) {
  nlohmann::json json = {{"device", environment.device()},
                         {"device_model", environment.device_model()},
                         {"worker_id", environment.worker_id()},
                         {"host_name", environment.host_name()},
                         {"build", environment.build()}};
  json["device_uuids"] = nlohmann::json::array();
  for (const std::string& uuid : environment.device_uuids()) json["device_uuids"].push_back(uuid);
  json["versions"] = nlohmann::json::object();
  for (const auto& [name, value] : environment.versions()) json["versions"][name] = value;
  json["device_state"] = nlohmann::json::object();
  for (const auto& [name, value] : environment.device_state()) json["device_state"][name] = value;
  return json;
}

nlohmann::json RunJson(const ReportData& data, const RunData& run) {
  nlohmann::json json = {{"point", run.point},
                         {"series", data.series[run.series]},
                         {"run", run.run},
                         {"job", run.job_name},
                         {"uid", run.job_uid},
                         {"outcome", ExperimentJob::Outcome_Name(run.outcome)},
                         {"cached", run.cached},
                         {"message", run.message},
                         {"spec_hash", run.spec_hash},
                         {"tokens_per_second", JsonNumber(TokensPerSecond(run))},
                         {"peak_memory_bytes", run.peak_memory_bytes},
                         {"environment", EnvironmentJson(run.environment)}};
  json["kernels_ran"] = nlohmann::json::object();
  for (const auto& [op, path] : run.kernels_ran) json["kernels_ran"][op] = path;
  json["steps"] = nlohmann::json::array();
  for (const StepData& step : run.steps) {
    json["steps"].push_back({{"step", step.step},
                             {"loss", JsonNumber(step.loss)},
                             {"seconds", JsonNumber(step.seconds)},
                             {"tokens_per_second", JsonNumber(step.tokens_per_second)}});
  }
  return json;
}

nlohmann::json PointJson(const ReportData& data, int point) {
  nlohmann::json json = {{"label", data.points[point].label}, {"x", data.points[point].x}};
  for (size_t s = 0; s < data.series.size(); ++s) {
    const Cell cell = CellOf(data, point, static_cast<int>(s));
    json["series"][data.series[s]] = {{"tokens_per_second", cell.tokens_per_second.mean},
                                      {"tokens_per_second_sd", cell.tokens_per_second.deviation},
                                      {"peak_memory_bytes", cell.peak_bytes.mean},
                                      {"runs", cell.tokens_per_second.count},
                                      {"out_of_memory", cell.out_of_memory},
                                      {"failed", cell.failed},
                                      {"cancelled", cell.cancelled},
                                      {"not_over", cell.not_over}};
  }
  if (data.series.size() != 2) return json;
  if (const auto ratio = SpeedRatio(data, point, 0, 1)) {
    json["speed_ratio"] = {{"ratio", ratio->ratio},
                           {"low", ratio->low},
                           {"high", ratio->high},
                           {"runs", ratio->runs}};
  }
  if (const auto gap = LargestLossGap(data, point, 0, 1)) {
    json["largest_loss_difference"] = {{"absolute", gap->largest},
                                       {"relative", gap->relative},
                                       {"step", gap->step},
                                       {"run", gap->run}};
  }
  return json;
}

}  // namespace

std::string ReportTable(const ReportData& data, int columns) {
  const bool pair = data.series.size() == 2;
  std::vector<std::string> header = {"POINT", "KERNELS", "JOBS", "TOKENS/S", "PEAK MEMORY"};
  if (pair) header.insert(header.end(), {"RATIO (95 %)", "LOSS DIFFERENCE"});
  Table table(header);
  for (int point = 0; point < static_cast<int>(data.points.size()); ++point) {
    for (int s = 0; s < static_cast<int>(data.series.size()); ++s) {
      const Cell cell = CellOf(data, point, s);
      const Spread& speed = cell.tokens_per_second;
      const Spread& peak = cell.peak_bytes;
      std::vector<std::string> row = {
          s == 0 ? data.points[point].label : "", data.series[s], JobsOf(data, point, s, cell),
          WithSpread(speed, absl::StrFormat("%.1f", speed.mean),
                     absl::StrFormat("%.1f", speed.deviation)),
          peak.count == 0 ? "-" : Bytes(static_cast<int64_t>(peak.mean))};
      if (pair) row.push_back(s == 0 ? SpeedRatioText(data, point) : "");
      if (pair) row.push_back(s == 0 ? GapText(data, point) : "");
      table.Add(row);
    }
  }
  std::string out = table.ToString(columns);
  for (const Difference& difference : data.differences) {
    absl::StrAppend(&out, "differs: ", difference.field, ": ",
                    absl::StrJoin(difference.values, " | "), "\n");
  }
  return out;
}

std::string JobsCsv(const ReportData& data) {
  const std::string kind = MemoryKind(data);
  std::string out =
      "point,series,run,job,uid,outcome,cached,spec_hash,tokens_per_second,peak_memory_kind,"
      "peak_memory_bytes,device,device_uuids,build\n";
  for (const RunData& run : data.runs) {
    const auto peak = run.peak_memory_bytes.find(kind);
    const double speed = TokensPerSecond(run);
    const std::vector<std::string> cells = {
        data.points[run.point].label,
        data.series[run.series],
        absl::StrCat(run.run + 1),
        run.job_name,
        run.job_uid,
        ExperimentJob::Outcome_Name(run.outcome),
        run.cached ? "true" : "false",
        run.spec_hash,
        speed > 0 ? Exact(speed) : "",
        kind,
        peak == run.peak_memory_bytes.end() ? "" : absl::StrCat(peak->second),
        run.environment.device(),
        absl::StrJoin(run.environment.device_uuids(), " "),
        run.environment.build()};
    absl::StrAppend(
        &out,
        absl::StrJoin(cells, ",",
                      [](std::string* to, const std::string& cell) { to->append(Quoted(cell)); }),
        "\n");
  }
  return out;
}

std::string StepsCsv(const ReportData& data) {
  std::string out = "point,series,run,job,step,loss,step_seconds,tokens_per_second\n";
  for (const RunData& run : data.runs) {
    for (const StepData& step : run.steps) {
      absl::StrAppend(&out, Quoted(data.points[run.point].label), ",",
                      Quoted(data.series[run.series]), ",", run.run + 1, ",", Quoted(run.job_name),
                      ",", step.step, ",", Exact(step.loss), ",", Exact(step.seconds), ",",
                      Exact(step.tokens_per_second), "\n");
    }
  }
  return out;
}

std::string ReportJson(const ReportData& data) {
  nlohmann::json json = {{"title", data.title},     {"uid", data.uid},
                         {"summary", data.summary}, {"series", data.series},
                         {"x", data.x_title},       {"peak_memory_kind", MemoryKind(data)},
                         {"job", data.job_yaml}};
  json["points"] = nlohmann::json::array();
  for (int point = 0; point < static_cast<int>(data.points.size()); ++point) {
    json["points"].push_back(PointJson(data, point));
  }
  json["differences"] = nlohmann::json::array();
  for (const Difference& difference : data.differences) {
    json["differences"].push_back({{"field", difference.field}, {"values", difference.values}});
  }
  json["runs"] = nlohmann::json::array();
  for (const RunData& run : data.runs) json["runs"].push_back(RunJson(data, run));
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace liger::client
