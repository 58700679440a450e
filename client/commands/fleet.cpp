// models, datasets, workers, artifacts: the verbs that list what there is.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/commands/inspect.h"
#include "client/format.h"
#include "common/model_shapes/model_families.h"
#include "liger/client/v1/output.pb.h"

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
ExitCode Show(Response response, Session& session, std::vector<std::string> header, Rows rows,
              Names names) {
  if (session.output == Output::kTable) {
    session.NameWorkers(&response);
    Table table(std::move(header));
    rows(response, &table);
    std::cout << table.ToString(session.columns());
  } else if (session.output == Output::kName) {
    names(response);
  } else {
    PrintMessage(response, session.output);
  }
  return kOk;
}

// What the catalog has, and what this version trains.
client::v1::Models WithFamilies(const liger::v1::ListModelsResponse& response) {
  client::v1::Models out;
  *out.mutable_models() = response.models();
  for (const ModelFamily& known : kModelFamilies) {
    client::v1::ModelFamily* family = out.add_families();
    family->set_model_type(std::string(known.model_type));
    family->set_models(std::string(known.models));
    family->set_features(std::string(known.features));
    for (const auto& model : response.models()) {
      const bool here = model.architecture() == known.model_type && model.present_on_size() > 0;
      if (here) family->add_present(model.name());
    }
  }
  return out;
}

// Below the catalog's table.
void ShowFamilies(const client::v1::Models& models, Session& session) {
  Table table({"FAMILY", "MODELS", "PRESENT", "BEYOND LLAMA"});
  for (const auto& family : models.families()) {
    table.Add({family.model_type(), family.models(), absl::StrJoin(family.present(), ", "),
               family.features()});
  }
  std::cout << "\nHugging Face folders of these families can be trained (docs/models.md):\n"
            << table.ToString(session.columns());
}

ExitCode Models(Session& session) {
  const client::v1::Models models = WithFamilies(
      session.connection().Call(&Stub::ListModels, liger::v1::ListModelsRequest()));
  const ExitCode code = Show(
      models, session, {"NAME", "ARCHITECTURE", "PARAMETERS", "PRESENT ON"},
      [](const auto& shown, Table* table) {
        for (const auto& model : shown.models()) {
          table->Add(
              {model.name(), model.architecture(), Parameters(model.parameters()), Present(model)});
        }
      },
      [](const auto& shown) {
        for (const auto& model : shown.models()) std::cout << model.name() << "\n";
      });
  if (session.output == Output::kTable) ShowFamilies(models, session);
  return code;
}

ExitCode Datasets(Session& session) {
  const auto response =
      session.connection().Call(&Stub::ListDatasets, liger::v1::ListDatasetsRequest());
  return Show(
      response, session, {"NAME", "DEFAULT FOR", "PRESENT ON", "DESCRIPTION"},
      [](const auto& shown, Table* table) {
        for (const auto& dataset : shown.datasets()) {
          table->Add({dataset.name(), absl::StrJoin(dataset.default_for(), ", "), Present(dataset),
                      dataset.description()});
        }
      },
      [](const auto& shown) {
        for (const auto& dataset : shown.datasets()) std::cout << dataset.name() << "\n";
      });
}

ExitCode Workers(Session& session) {
  const auto response =
      session.connection().Call(&Stub::ListWorkers, liger::v1::ListWorkersRequest());
  const bool wide = session.output_name == kWide;
  std::vector<std::string> header = {"WORKER", "STATE", "DEVICE", "MEMORY", "JOB", "HEARTBEAT"};
  if (wide) header.push_back("ID");
  return Show(
      response, session, header,
      [wide](const auto& shown, Table* table) {
        for (const auto& worker : shown.workers()) {
          const std::string& name = worker.name().empty() ? worker.worker_id() : worker.name();
          const std::string age = Age(worker.last_heartbeat_time(), absl::Now());
          const auto add = [&](std::vector<std::string> device) {
            std::vector<std::string> row = {name, worker.state()};
            row.insert(row.end(), device.begin(), device.end());
            row.push_back(age);
            if (wide) row.push_back(worker.worker_id());
            table->Add(std::move(row));
          };
          if (worker.devices().empty()) add({"none", "", ""});
          for (const auto& device : worker.devices()) {
            const std::string unused =
                worker.unfit().empty() ? "free" : absl::StrCat("gets no job: ", worker.unfit());
            const std::string use = device.job_name().empty() ? unused : device.job_name();
            add({device.model(), Bytes(device.memory_bytes()),
                 device.fault().empty() ? use : absl::StrCat("CORDONED: ", device.fault())});
          }
        }
      },
      [](const auto& shown) {
        for (const auto& worker : shown.workers()) std::cout << worker.worker_id() << "\n";
      });
}

ExitCode Artifacts(const std::string& job, Session& session) {
  liger::v1::ListArtifactsRequest request;
  request.set_job(job);
  const auto response = session.connection().Call(&Stub::ListArtifacts, request);
  return Show(
      response, session, {"KIND", "STEP", "SIZE", "WORKER", "URI", "STATE"},
      [](const auto& shown, Table* table) {
        for (const auto& artifact : shown.artifacts()) {
          table->Add({artifact.kind(), absl::StrCat(artifact.step()), Bytes(artifact.bytes()),
                      artifact.worker_id(), artifact.uri(),
                      artifact.state() == liger::v1::Artifact::QUARANTINED
                          ? absl::StrCat("QUARANTINED: ", Printable(artifact.reason()))
                          : "ok"});
        }
      },
      [](const auto& shown) {
        for (const auto& artifact : shown.artifacts()) std::cout << artifact.uri() << "\n";
      });
}

}  // namespace

Action DeclareModels(CLI::App*) { return Models; }

Action DeclareDatasets(CLI::App* app) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* inspect = app->add_subcommand("inspect", "Show what training would see of a dataset");
  inspect->fallthrough();
  DeclareInspectFlags(inspect, flags.get());
  return [flags, inspect](Session& session) {
    return inspect->parsed() ? Inspect(*flags, session) : Datasets(session);
  };
}

Action DeclareWorkers(CLI::App*) { return Workers; }

Action DeclareArtifacts(CLI::App* app) {
  auto job = std::make_shared<std::string>();
  app->add_option("job", *job, "Name or uid (default: of all jobs)");
  return [job](Session& session) { return Artifacts(*job, session); };
}

}  // namespace liger::client
