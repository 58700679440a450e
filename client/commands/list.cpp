#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/format.h"
#include "common/spec/spec.h"

namespace liger::client {
namespace {

struct Options {
  std::string filter;
  int limit = 50;
};

liger::v1::ListJobsResponse Fetch(const Options& options, Connection& connection) {
  liger::v1::ListJobsResponse all;
  liger::v1::ListJobsRequest request;
  request.set_filter(options.filter);
  while (all.jobs_size() < options.limit) {
    request.set_page_size(std::min(500, options.limit - all.jobs_size()));
    const auto page = connection.Call(&liger::v1::FineTuning::StubInterface::ListJobs, request);
    all.mutable_jobs()->MergeFrom(page.jobs());
    all.set_next_page_token(page.next_page_token());
    if (page.next_page_token().empty()) break;
    request.set_page_token(page.next_page_token());
  }
  return all;
}

// The last name of a path.
std::string ModelName(const std::string& model) { return model.substr(model.rfind('/') + 1); }

void PrintTable(const liger::v1::ListJobsResponse& response, Session& session) {
  const bool wide = session.output_name == kWide;
  Table table({"NAME", "STATE", "TRAINER", "MODEL", "STEP", "AGE", "CAUSE"});
  for (const auto& job : response.jobs()) {
    const auto& progress = job.status().progress();
    const std::string step =
        progress.max_steps() > 0 ? absl::StrCat(progress.step(), "/", progress.max_steps()) : "";
    std::string cause = Cause(job.status());
    if (!wide) cause = Cut(cause, 60);
    std::replace(cause.begin(), cause.end(), '\n', ' ');
    const std::string& model = job.spec().model().name();
    table.Add({job.name(), StateName(job.status().state()), MethodName(job.spec()),
               wide ? model : ModelName(model), step, Age(job.create_time(), absl::Now()), cause});
  }
  std::cout << table.ToString(session.columns(), Table::Overflow::kCut);
  if (!response.next_page_token().empty()) std::cout << "(more; raise --limit)\n";
}

}  // namespace

Action DeclareList(CLI::App* app) {
  auto options = std::make_shared<Options>();
  app->add_option("--filter", options->filter,
                  "state=RUNNING, label.team=nlp, trainer=orpo, model=..., name=prefix*; "
                  "joined by \",\" or \" AND \"");
  app->add_option("--limit", options->limit, "Most jobs to show")->check(Positive());
  return [options](Session& session) {
    auto response = Fetch(*options, session.connection());
    if (session.output == Output::kName) {
      for (const auto& job : response.jobs()) std::cout << job.name() << "\n";
    } else if (session.output == Output::kTable) {
      session.NameWorkers(&response);
      PrintTable(response, session);
    } else {
      PrintMessage(response, session.output);
    }
    return kOk;
  };
}

}  // namespace liger::client
