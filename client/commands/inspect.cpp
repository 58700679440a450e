// datasets inspect: what training would see of a file. The client has no
// tokenizer; liger-trainer, which lies beside it, has.
#include "client/commands/inspect.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/job_builder.h"
#include "client/process.h"
#include "client/terminal.h"
#include "common/data_files.h"
#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {
namespace {

namespace fs = std::filesystem;

// What a name of the job file stands for on this machine.
struct Place {
  std::string field;        // "model.name"
  const char* root_flag;    // "--model-root"
  std::string root;         // "/srv/models"
  std::string output_root;  // behind it, as on a worker
};

// The folder that a flag gave, or the one below ~/.liger.
std::string RootOr(const std::string& given, const char* home_folder) {
  if (!given.empty()) return given;
  const char* home = std::getenv("HOME");
  return absl::StrCat(home == nullptr ? "." : home, "/.liger/", home_folder);
}

// What the coordinator lists; nullopt when it cannot be asked.
template <typename Request, typename Response>
std::optional<Response> Listed(Session& session,
                grpc::Status (liger::v1::FineTuning::StubInterface::*list)(grpc::ClientContext*,
                                                                           const Request&,
                                                                           Response*)) {
  try {
    return session.connection().Call(list, Request());
  } catch (const CliError&) {
    return std::nullopt;
  }
}

// Why nothing here is what `name` stands for, and the remedy. `listed`: the coordinator's list.
template <typename Entries>
std::string NotHere(const std::string& name, const Place& place,
                    const std::optional<Entries>& listed) {
  const std::string not_below =
      absl::StrCat(place.field, ": '", name, "' is neither here nor below ", place.root, " or ",
                   place.output_root);
  if (!listed || LooksLikePath(name)) {
    return absl::StrCat(not_below, "; name a path, or give ", place.root_flag,
                        listed ? ""
                               : " (names of the catalog are known while its coordinator runs, and "
                                 "none answers)");
  }
  for (const auto& entry : *listed) {
    if (entry.name() != name || entry.present_on().empty()) continue;
    return absl::StrCat(not_below, "; worker ", entry.present_on(0), " has it below its own root: ",
                        "on that machine give ", place.root_flag,
                        ", as liger-cli up or the worker was given it");
  }
  return absl::StrCat(not_below, ", and the coordinator knows of no worker that has it; name a ",
                      "path, or give ", place.root_flag);
}

// A path that exists here, or what lies below the root or the output root under that name, or
// below the root where the catalog has it, which `entries` lists when asked.
template <typename Entries>
std::string Locate(const std::string& name, const Place& place, const Entries& entries) {
  std::error_code error;
  const bool is_uri = name.find("://") != std::string::npos;
  if (name.empty() || is_uri || IsPattern(name) || fs::exists(name, error)) return name;
  const fs::path root = place.root;
  for (const fs::path& folder : {root, fs::path(place.output_root)}) {
    if (fs::exists(folder / name, error)) return folder / name;
  }
  const auto listed = entries();
  if (listed && !LooksLikePath(name)) {
    for (const auto& entry : *listed) {
      if (entry.name() == name && fs::exists(root / entry.uri(), error)) return root / entry.uri();
    }
  }
  throw CliError(kInvalidInput, NotHere(name, place, listed));
}

// The job as `submit` would send it, its names as files of this machine.
liger::v1::JobSpec LocalSpec(const InspectFlags& flags, Session& session) {
  SpecFlags spec_flags;
  spec_flags.file = flags.job_file;
  spec_flags.model = flags.model;
  spec_flags.trainer = flags.trainer;
  spec_flags.dataset = flags.file;
  spec_flags.sets = flags.sets;
  std::vector<std::string> notes;
  liger::v1::JobSpec spec = BuildSpec(spec_flags, &notes);
  for (const std::string& note : notes) std::cerr << note << "\n";

  using Stub = liger::v1::FineTuning::StubInterface;
  using google::protobuf::RepeatedPtrField;
  using liger::v1::CatalogDataset;
  using liger::v1::CatalogModel;
  const auto models = [&session]() -> std::optional<RepeatedPtrField<CatalogModel>> {
    const auto listed = Listed(session, &Stub::ListModels);
    return listed ? std::optional(listed->models()) : std::nullopt;
  };
  const auto datasets = [&session]() -> std::optional<RepeatedPtrField<CatalogDataset>> {
    const auto listed = Listed(session, &Stub::ListDatasets);
    return listed ? std::optional(listed->datasets()) : std::nullopt;
  };
  const std::string outputs = RootOr(flags.output_root, "outputs");
  const Place model_place = {"model.name", "--model-root", RootOr(flags.model_root, "models"),
                             outputs};
  const Place data_place = {"dataset.name", "--dataset-root",
                            RootOr(flags.dataset_root, "datasets"), outputs};

  // What a job names by its place is not looked up in the catalog.
  const auto place_of = [](Place place, const char* field, const std::string& uri) {
    place.field = field;
    return Locate(uri, place, [] { return std::optional(RepeatedPtrField<CatalogModel>()); });
  };
  if (spec.model().uri().empty()) {
    spec.mutable_model()->set_name(Locate(spec.model().name(), model_place, models));
  } else {
    spec.mutable_model()->set_uri(place_of(model_place, "model.uri", spec.model().uri()));
  }
  if (const std::string& adapter = spec.lora().adapter_uri(); !adapter.empty()) {
    spec.mutable_lora()->set_adapter_uri(place_of(model_place, "lora.adapter_uri", adapter));
  }
  liger::v1::DatasetSpec* data = spec.mutable_dataset();
  if (DatasetTitle(*data).empty()) {
    const auto listed = datasets().value_or(RepeatedPtrField<CatalogDataset>());
    for (const auto& entry : listed) {  // as the coordinator chooses
      const auto& trainers = entry.default_for();
      const auto found = std::find(trainers.begin(), trainers.end(), MethodName(spec));
      if (found == trainers.end()) continue;
      data->set_name(entry.name());
      break;
    }
  }
  if (data->uri().empty()) {
    data->set_name(Locate(data->name(), data_place, datasets));
  } else {
    data->set_uri(place_of(data_place, "dataset.uri", data->uri()));
  }
  Place named_place = data_place;
  for (int i = 0; i < data->sources_size(); ++i) {
    named_place.field = absl::StrCat("dataset.sources[", i, "].uri");
    liger::v1::DatasetSource* source = data->mutable_sources(i);
    source->set_uri(Locate(source->uri(), named_place, datasets));
  }
  named_place.field = "dataset.eval_uri";
  data->set_eval_uri(Locate(data->eval_uri(), named_place, datasets));
  return spec;
}

// A file without a name that holds `text`; what is exec'd can read it. Returns
// its path. Throws CliError.
std::string UnnamedFile(const std::string& text) {
  const int fd = memfd_create("job.yaml", 0);
  if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw CliError(kError, absl::StrCat("cannot hand the job over: ", strerror(errno)));
  }
  return absl::StrCat("/proc/self/fd/", fd);
}

bool WantsColor() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) && std::getenv("NO_COLOR") == nullptr &&
         (terminal == nullptr || std::strcmp(terminal, "dumb") != 0);
}

std::vector<std::string> TrainerCommand(const InspectFlags& flags, Session& session) {
  std::vector<std::string> command = {ProgramFolder() + "/liger-trainer",
                                      "inspect",
                                      "--spec",
                                      UnnamedFile(ToYaml(LocalSpec(flags, session))),
                                      "--row",
                                      absl::StrCat(flags.row)};
  if (session.output == Output::kJson) command.push_back("--json");
  if (session.output == Output::kTable && WantsColor()) command.push_back("--color");
  return command;
}

}  // namespace

void DeclareInspectFlags(CLI::App* app, InspectFlags* flags) {
  app->add_option("file", flags->file, "File, folder or pattern (default: the job file's)");
  app->add_option("-f,--file", flags->job_file, "Job file to take all else from");
  app->add_option("--model", flags->model, "Hugging Face folder, or its name below --model-root");
  app->add_option("--model-root", flags->model_root, "Folder of models (default ~/.liger/models)");
  app->add_option("--dataset-root", flags->dataset_root,
                  "Folder of datasets (default ~/.liger/datasets)");
  app->add_option("--output-root", flags->output_root,
                  "Folder of jobs' outputs, where names are looked for, too (default "
                  "~/.liger/outputs)");
  app->add_option("--trainer", flags->trainer,
                  "sft, dpo, orpo, kto or cpo (default: the job file's)");
  app->add_option("--set", flags->sets, "Set a field: --set training.max_length=512")
      ->allow_extra_args(false);
  app->add_option("--row", flags->row, "Row to show, of those that are trained on")
      ->capture_default_str();
}

ExitCode Inspect(const InspectFlags& flags, Session& session) {
  if (session.output != Output::kTable && session.output != Output::kJson) {
    throw CliError(kInvalidInput, absl::StrCat("-o ", session.output_name,
                                               ": datasets inspect prints table or json"));
  }
  const bool has_job = !flags.job_file.empty();
  if (!has_job && (flags.file.empty() || flags.model.empty() || flags.trainer.empty())) {
    throw CliError(kInvalidInput,
                   "datasets inspect needs a file, --model and --trainer, or a job file (-f)");
  }
  const std::vector<std::string> command = TrainerCommand(flags, session);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::cout.flush();
  execv(arguments[0], arguments.data());
  throw CliError(kError, absl::StrCat("cannot run ", command[0], ": ", strerror(errno),
                                      "; datasets inspect needs it beside liger-cli"));
}

}  // namespace liger::client
