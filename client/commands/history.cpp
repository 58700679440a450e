// events and metrics: what has happened to a job.
#include <algorithm>
#include <iostream>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/format.h"

namespace liger::client {
namespace {

using Stub = liger::v1::FineTuning::StubInterface;

std::string ClockTime(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(time.seconds()),
                          absl::LocalTimeZone());
}

ExitCode Events(const std::string& job, Session& session) {
  liger::v1::ListEventsResponse all;
  liger::v1::ListEventsRequest request;
  request.set_job(job);
  do {
    const auto page = session.connection().Call(&Stub::ListEvents, request);
    all.mutable_events()->MergeFrom(page.events());
    request.set_after_seq(page.next_after_seq());
  } while (request.after_seq() > 0);
  if (session.output != Output::kTable) {
    PrintMessage(all, session.output);
    return kOk;
  }
  session.NameWorkers(&all);
  Table table({"SEQ", "TIME", "ACTOR", "EVENT", "STATE", "MESSAGE"});
  for (const auto& event : all.events()) {
    const bool moved = event.to_state() != liger::v1::JobStatus::STATE_UNSPECIFIED;
    table.Add({absl::StrCat(event.seq()), ClockTime(event.time()), event.actor(), event.type(),
               moved ? StateName(event.to_state()) : "", event.message()});
  }
  std::cout << table.ToString(session.columns());
  return kOk;
}

constexpr size_t kGap = 2;  // between a table's columns

// The first of `columns` that fit into `width` (0: all).
size_t Fitting(const std::vector<std::vector<std::string>>& columns, int width) {
  size_t used = 0;
  for (size_t i = 0; i < columns.size(); ++i) {
    size_t widest = 0;
    for (const std::string& cell : columns[i]) widest = std::max(widest, Width(cell));
    used += widest + (i == 0 ? 0 : kGap);
    if (width > 0 && used > static_cast<size_t>(width)) return i;
  }
  return columns.size();
}

std::set<std::string> NamesIn(const liger::v1::QueryMetricsResponse& response) {
  std::set<std::string> names;
  for (const auto& point : response.points()) {
    for (const auto& [name, value] : point.values()) names.insert(name);
  }
  return names;
}

void PrintMetrics(const liger::v1::QueryMetricsResponse& response, int width) {
  const std::set<std::string> unordered = NamesIn(response);
  const std::set<std::string, MetricBefore> names(unordered.begin(), unordered.end());
  std::vector<std::vector<std::string>> columns = {{"STEP"}};
  for (const std::string& name : names) columns.push_back({name});
  for (const auto& point : response.points()) {
    columns[0].push_back(absl::StrCat(point.step()));
    size_t column = 0;
    for (const std::string& name : names) {
      const auto it = point.values().find(name);
      columns[++column].push_back(it == point.values().end() ? "" : Number(it->second));
    }
  }
  const size_t fitting = Fitting(columns, width);
  const auto row = [&](size_t i) {
    std::vector<std::string> cells;
    for (size_t column = 0; column < fitting; ++column) cells.push_back(columns[column][i]);
    return cells;
  };
  Table table(row(0));
  for (size_t i = 1; i < columns[0].size(); ++i) table.Add(row(i));
  std::cout << table.ToString();
  if (fitting < columns.size()) {
    std::string rest;
    for (size_t column = fitting; column < columns.size(); ++column) {
      absl::StrAppend(&rest, rest.empty() ? "" : ",", columns[column][0]);
    }
    const std::string note = "(more, with --names or -o wide: " + rest + ")";
    std::cout << Wrap(note, width, 1) << "\n";
  }
  if (response.thinned()) std::cout << "(points were thinned out)\n";
}

// Puts the values of an evaluation that were asked for into its step's point, which is a new one
// where that step logged none (step 0 is before the first).
void AddEvaluation(const liger::v1::Evaluation& evaluation,
                   const liger::v1::QueryMetricsRequest& request,
                   liger::v1::QueryMetricsResponse* response) {
  const int64_t step = evaluation.step();
  if (step < request.from_step()) return;
  if (request.to_step() != 0 && step > request.to_step()) return;
  auto* points = response->mutable_points();
  const auto at = std::lower_bound(points->begin(), points->end(), step,
                                   [](const auto& point, int64_t s) { return point.step() < s; });
  liger::v1::MetricPoint* point = at != points->end() && at->step() == step ? &*at : nullptr;
  if (point == nullptr) {
    const auto place = at - points->begin();
    points->Add()->set_step(step);
    std::rotate(points->begin() + place, points->end() - 1, points->end());
    point = &points->at(static_cast<int>(place));
  }
  const auto& names = request.names();
  for (const auto& [name, value] : evaluation.values()) {
    const bool wanted = names.empty() || std::find(names.begin(), names.end(), name) != names.end();
    if (wanted) (*point->mutable_values())[name] = value;
  }
}

// What the steps logged, and the evaluations, which the job's status has.
liger::v1::QueryMetricsResponse QueryMetrics(Connection& connection,
                                             const liger::v1::QueryMetricsRequest& request) {
  auto response = connection.Call(&Stub::QueryMetrics, request);
  liger::v1::GetJobRequest get;
  get.set_job(request.job());
  const liger::v1::Job job = connection.Call(&Stub::GetJob, get);
  for (const auto& evaluation : job.status().evaluations()) {
    AddEvaluation(evaluation, request, &response);
  }
  if (request.names().empty()) return response;
  auto* points = response.mutable_points();
  points->erase(std::remove_if(points->begin(), points->end(),
                               [](const auto& point) { return point.values().empty(); }),
                points->end());
  return response;
}

// Throws CliError where a name that was asked for is in no step, while the steps have others.
void RequireNames(Connection& connection, const liger::v1::QueryMetricsRequest& request,
                  const liger::v1::QueryMetricsResponse& response) {
  const std::set<std::string> found = NamesIn(response);
  for (const std::string& name : request.names()) {
    if (found.contains(name)) continue;
    liger::v1::QueryMetricsRequest all = request;
    all.clear_names();
    const std::set<std::string> known = NamesIn(QueryMetrics(connection, all));
    if (known.empty()) return;  // no steps yet
    throw CliError(kInvalidInput, absl::StrCat("--names: these steps have no '", name,
                                               "'; they have ", absl::StrJoin(known, ", ")));
  }
}

}  // namespace

Action DeclareEvents(CLI::App* app) {
  auto job = std::make_shared<std::string>();
  app->add_option("job", *job, "Name or uid")->required();
  return [job](Session& session) { return Events(*job, session); };
}

Action DeclareMetrics(CLI::App* app) {
  struct Options {
    std::string job;
    std::string names;
    int64_t from_step = 0;
    int64_t to_step = 0;
  };
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_option("--names", options->names, "Only these, comma-separated: loss,eval_loss");
  app->add_option("--from-step", options->from_step, "First step")->check(WholeNumber());
  app->add_option("--to-step", options->to_step, "Last step")->check(WholeNumber());
  return [options](Session& session) {
    liger::v1::QueryMetricsRequest request;
    request.set_job(options->job);
    request.set_from_step(options->from_step);
    request.set_to_step(options->to_step);
    for (const auto name : absl::StrSplit(options->names, ',', absl::SkipEmpty())) {
      request.add_names(std::string(name));
    }
    const auto response = QueryMetrics(session.connection(), request);
    RequireNames(session.connection(), request, response);
    if (session.output == Output::kTable) {
      PrintMetrics(response, session.columns());
    } else {
      PrintMessage(response, session.output);
    }
    return kOk;
  };
}

}  // namespace liger::client
