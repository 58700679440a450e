// compare: two jobs side by side.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/commands/report_output.h"
#include "client/errors.h"
#include "client/format.h"
#include "client/job_display.h"
#include "liger/v1/experiments.grpc.pb.h"

namespace liger::client {
namespace {

struct CompareOptions {
  std::string first;
  std::string second;
  std::string out;
};

ExitCode Compare(const CompareOptions& options, Session& session) {
  const auto stub = liger::v1::Experiments::NewStub(session.connection().channel());
  const auto get = [&](const std::string& job) {
    liger::v1::GetRunRequest request;
    request.set_job(job);
    return session.connection().CallOn<liger::v1::Experiments::StubInterface>(
        *stub, &liger::v1::Experiments::StubInterface::GetRun, request);
  };
  const liger::v1::Run first = get(options.first);
  const liger::v1::Run second = get(options.second);
  if (first.job().uid() == second.job().uid()) {
    throw CliError(kInvalidInput, absl::StrCat("'", options.first, "' and '", options.second,
                                               "' are the same job; name two"));
  }
  for (const liger::v1::Run* run : {&first, &second}) {
    const liger::v1::Job& job = run->job();
    if (IsTerminal(job.status().state())) continue;
    std::cerr << "note: " << job.name() << " has not ended (" << StateName(job.status().state())
              << "): the report holds what it has so far\n";
  }
  const ReportData data = FromJobs(first, second);
  if (!data.differences.empty()) {
    std::cerr << "note: these jobs differ in more than the kernels; the differences are listed\n";
  }
  const std::string folder =
      options.out.empty() ? absl::StrCat(first.job().name(), "-", second.job().name(), "-report")
                          : options.out;
  PrintReport(data, folder, session);
  return kOk;
}

}  // namespace

Action DeclareCompare(CLI::App* app) {
  auto options = std::make_shared<CompareOptions>();
  app->add_option("job", options->first, "Name or uid")->required();
  app->add_option("other", options->second, "Name or uid of the job to compare with")->required();
  app->add_option("--out", options->out, "Folder to write to (default: JOB-OTHER-report)");
  return [options](Session& session) { return Compare(*options, session); };
}

}  // namespace liger::client
