// models, datasets, workers, artifacts: the verbs that list what there is.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/format.h"

namespace liger::client {
namespace {

using Stub = liger::v1::FineTuning::StubInterface;

std::string Parameters(int64_t count) {
  if (count == 0) return "";
  return count >= 1000000000 ? absl::StrFormat("%.1fB", static_cast<double>(count) / 1e9)
                             : absl::StrFormat("%.0fM", static_cast<double>(count) / 1e6);
}

// Workers that have something, or where to put it.
template <typename Entry>
std::string Present(const Entry& entry) {
  return entry.present_on_size() > 0 ? absl::StrJoin(entry.present_on(), ", ") : entry.hint();
}

// Prints a response in the output chosen: `rows` fills the table, `names` the
// list of -o name.
template <typename Response, typename Rows, typename Names>
ExitCode Show(const Response& response, Output output, std::vector<std::string> header, Rows rows,
              Names names) {
  if (output == Output::kTable) {
    Table table(std::move(header));
    rows(&table);
    std::cout << table.ToString();
  } else if (output == Output::kName) {
    names();
  } else {
    PrintMessage(response, output);
  }
  return kOk;
}

ExitCode Models(Session& session) {
  const auto response =
      session.connection().Call(&Stub::ListModels, liger::v1::ListModelsRequest());
  return Show(
      response, session.output, {"NAME", "ARCHITECTURE", "SIZE", "PRESENT ON"},
      [&](Table* table) {
        for (const auto& model : response.models()) {
          table->Add(
              {model.name(), model.architecture(), Parameters(model.parameters()), Present(model)});
        }
      },
      [&] {
        for (const auto& model : response.models()) std::cout << model.name() << "\n";
      });
}

ExitCode Datasets(Session& session) {
  const auto response =
      session.connection().Call(&Stub::ListDatasets, liger::v1::ListDatasetsRequest());
  return Show(
      response, session.output, {"NAME", "DEFAULT FOR", "PRESENT ON", "DESCRIPTION"},
      [&](Table* table) {
        for (const auto& dataset : response.datasets()) {
          table->Add({dataset.name(), absl::StrJoin(dataset.default_for(), ", "), Present(dataset),
                      dataset.description()});
        }
      },
      [&] {
        for (const auto& dataset : response.datasets()) std::cout << dataset.name() << "\n";
      });
}

ExitCode Workers(Session& session) {
  const auto response =
      session.connection().Call(&Stub::ListWorkers, liger::v1::ListWorkersRequest());
  return Show(
      response, session.output, {"WORKER", "STATE", "DEVICE", "MEMORY", "JOB", "HEARTBEAT"},
      [&](Table* table) {
        for (const auto& worker : response.workers()) {
          const std::string age = Age(worker.last_heartbeat_time(), absl::Now());
          if (worker.devices().empty()) {
            table->Add({worker.worker_id(), worker.state(), "none", "", "", age});
          }
          for (const auto& device : worker.devices()) {
            table->Add({worker.worker_id(), worker.state(), device.model(),
                        Bytes(device.memory_bytes()),
                        device.job_name().empty() ? "free" : device.job_name(), age});
          }
        }
      },
      [&] {
        for (const auto& worker : response.workers()) std::cout << worker.worker_id() << "\n";
      });
}

ExitCode Artifacts(const std::string& job, Session& session) {
  liger::v1::ListArtifactsRequest request;
  request.set_job(job);
  const auto response = session.connection().Call(&Stub::ListArtifacts, request);
  return Show(
      response, session.output, {"KIND", "STEP", "SIZE", "WORKER", "URI"},
      [&](Table* table) {
        for (const auto& artifact : response.artifacts()) {
          table->Add({artifact.kind(), absl::StrCat(artifact.step()), Bytes(artifact.bytes()),
                      artifact.worker_id(), artifact.uri()});
        }
      },
      [&] {
        for (const auto& artifact : response.artifacts()) std::cout << artifact.uri() << "\n";
      });
}

}  // namespace

Action DeclareModels(CLI::App*) { return Models; }
Action DeclareDatasets(CLI::App*) { return Datasets; }
Action DeclareWorkers(CLI::App*) { return Workers; }

Action DeclareArtifacts(CLI::App* app) {
  auto job = std::make_shared<std::string>();
  app->add_option("job", *job, "Name or uid (default: of all jobs)");
  return [job](Session& session) { return Artifacts(*job, session); };
}

}  // namespace liger::client
