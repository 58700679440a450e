#include "server/catalog/catalog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "common/spec/violations.h"
#include "common/spec/yaml_proto.h"
#include "liger/v1/catalog.pb.h"

namespace liger::server {

extern const char kDefaultCatalogYaml[];  // default_catalog.cpp, generated

namespace {

using liger::v1::CatalogDataset;
using liger::v1::CatalogModel;
using liger::v1::Violation;

const std::vector<std::string> kTrainers(std::begin(kTrainableMethods),
                                         std::end(kTrainableMethods));

// Collects what is wrong with a file that has the right fields.
class CatalogChecker {
 public:
  explicit CatalogChecker(absl::string_view source) : source_(source) {}

  template <typename Entry>
  void CheckEntries(const std::string& list, const std::vector<Entry>& entries) {
    std::set<std::string> names;
    for (size_t i = 0; i < entries.size(); ++i) {
      const Entry& entry = entries[i];
      const std::string field = absl::StrCat(list, "[", i, "]");
      if (entry.name().empty()) Add(absl::StrCat(field, ".name"), "is missing");
      if (entry.uri().empty()) Add(absl::StrCat(field, ".uri"), "is missing");
      if (LooksLikePath(entry.name())) {
        Add(absl::StrCat(field, ".name"),
            absl::StrCat("'", entry.name(), "' would be read as a path; use another name"));
      }
      if (!names.insert(entry.name()).second) {
        Add(absl::StrCat(field, ".name"), absl::StrCat("'", entry.name(), "' is there twice"));
      }
      if (entry.present_on_size() > 0 || !entry.hint().empty()) {
        Add(field, "present_on and hint are reported by the fleet; remove them");
      }
    }
  }

  void CheckDefaults(const std::vector<CatalogDataset>& datasets) {
    std::set<std::string> taken;
    for (const CatalogDataset& dataset : datasets) {
      for (const std::string& trainer : dataset.default_for()) {
        if (std::find(kTrainers.begin(), kTrainers.end(), trainer) == kTrainers.end()) {
          Add(absl::StrCat("datasets.", dataset.name(), ".default_for"),
              absl::StrCat("unknown trainer '", trainer, "'; one of ",
                           absl::StrJoin(kTrainers, ", ")));
        } else if (!taken.insert(trainer).second) {
          Add(absl::StrCat("datasets.", dataset.name(), ".default_for"),
              absl::StrCat("another dataset is the default for ", trainer));
        }
      }
    }
  }

  const std::vector<Violation>& violations() const { return violations_; }

 private:
  void Add(const std::string& field, const std::string& message) {
    Violation& violation = violations_.emplace_back();
    violation.set_field(field);
    violation.set_message(message);
    violation.set_file(source_);
  }

  const std::string source_;
  std::vector<Violation> violations_;
};

template <typename Entry>
const Entry* Find(const std::vector<Entry>& entries, absl::string_view name) {
  for (const Entry& entry : entries) {
    if (entry.name() == name) return &entry;
  }
  return nullptr;
}

// "; near: a, b", or "" where none is.
template <typename Entry>
std::string NearNames(const std::string& name, const std::vector<Entry>& entries) {
  std::vector<std::string> names;
  for (const Entry& entry : entries) names.push_back(entry.name());
  const std::vector<std::string> near = NearMatches(name, names);
  return near.empty() ? "" : absl::StrCat("; near: ", absl::StrJoin(near, ", "));
}

template <typename Entry>
Violation UnknownName(const std::string& field, absl::string_view what, const std::string& name,
                      const std::vector<Entry>& entries) {
  Violation violation;
  violation.set_field(field);
  const std::string example =
      what == "model"
          ? absl::StrCat(" (a folder of the model root, or a job's output: ./", name, ")")
          : "";
  violation.set_message(absl::StrCat("unknown ", what, " '", name, "'", NearNames(name, entries),
                                     "; liger-cli ", what, "s lists all, and a path has a '/'",
                                     example));
  return violation;
}

// A URI that was given beside a name wins, also against the catalog.
template <typename Given, typename Entry>
void NoteOtherPlace(absl::string_view section, const Given& given, const Entry* known,
                    std::vector<std::string>* notices) {
  if (known == nullptr || given.uri().empty() || given.uri() == known->uri()) return;
  notices->push_back(absl::StrCat(section, ".uri ", given.uri(), " is read, not what the catalog ",
                                  "has as ", given.name(), " (", known->uri(), ")"));
}

}  // namespace

const Catalog& Catalog::Default() {
  // Never destroyed; a default that does not parse is caught by catalog_test.
  static const Catalog* const catalog =
      new Catalog(FromYaml(kDefaultCatalogYaml, "default_catalog.yaml").value());
  return *catalog;
}

absl::StatusOr<Catalog> Catalog::FromFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, 16 << 20);
  if (!text.ok()) return text.status();
  return FromYaml(*text, path);
}

absl::StatusOr<Catalog> Catalog::FromYaml(absl::string_view yaml, absl::string_view source) {
  liger::v1::CatalogFile file;
  const std::vector<Violation> syntax = ParseYaml(std::string(yaml), std::string(source), &file);
  if (!syntax.empty()) return ViolationsToStatus(syntax);
  Catalog catalog;
  catalog.models_ = {file.models().begin(), file.models().end()};
  catalog.datasets_ = {file.datasets().begin(), file.datasets().end()};
  CatalogChecker checker(source);
  checker.CheckEntries("models", catalog.models_);
  checker.CheckEntries("datasets", catalog.datasets_);
  checker.CheckDefaults(catalog.datasets_);
  if (!checker.violations().empty()) return ViolationsToStatus(checker.violations());
  for (const CatalogModel& model : catalog.models_) catalog.uris_.insert(model.uri());
  for (const CatalogDataset& dataset : catalog.datasets_) catalog.uris_.insert(dataset.uri());
  return catalog;
}

const CatalogModel* Catalog::FindModel(absl::string_view name) const { return Find(models_, name); }

const CatalogDataset* Catalog::FindDataset(absl::string_view name) const {
  return Find(datasets_, name);
}

const CatalogDataset* Catalog::DefaultDataset(absl::string_view method) const {
  for (const CatalogDataset& dataset : datasets_) {
    const auto& trainers = dataset.default_for();
    if (std::find(trainers.begin(), trainers.end(), method) != trainers.end()) return &dataset;
  }
  return nullptr;
}

std::string Catalog::NearDatasets(const std::string& name) const {
  if (LooksLikePath(name)) return "";
  const std::string near = NearNames(name, datasets_);
  return near.empty() ? "" : absl::StrCat("; the catalog has no dataset of that name", near);
}

void Catalog::ResolveSources(liger::v1::DatasetSpec* dataset,
                             std::vector<Violation>* violations) const {
  for (int i = 0; i < dataset->sources_size(); ++i) {
    liger::v1::DatasetSource* source = dataset->mutable_sources(i);
    const CatalogDataset* known = FindDataset(source->uri());
    if (known != nullptr) {
      source->set_uri(known->uri());
      if (source->format() == liger::v1::DATASET_FORMAT_AUTO) source->set_format(known->format());
    } else if (!source->uri().empty() && !LooksLikePath(source->uri())) {
      violations->push_back(UnknownName(absl::StrCat("dataset.sources[", i, "].uri"), "dataset",
                                        source->uri(), datasets_));
    }
  }
}

CatalogResolution Catalog::Resolve(liger::v1::JobSpec* spec) const {
  CatalogResolution resolution;
  liger::v1::ModelSpec* model = spec->mutable_model();
  NoteOtherPlace("model", *model, FindModel(model->name()), &resolution.notices);
  NoteOtherPlace("dataset", spec->dataset(), FindDataset(spec->dataset().name()),
                 &resolution.notices);
  if (model->uri().empty() && !model->name().empty()) {
    const CatalogModel* known = FindModel(model->name());
    if (known == nullptr && !LooksLikePath(model->name())) {
      resolution.violations.push_back(UnknownName("model.name", "model", model->name(), models_));
    }
    model->set_uri(known == nullptr ? model->name() : known->uri());
  }

  liger::v1::DatasetSpec* dataset = spec->mutable_dataset();
  // Of another name it may be a folder of the dataset root.
  if (const CatalogDataset* known = FindDataset(dataset->eval_uri()); known != nullptr) {
    dataset->set_eval_uri(known->uri());
  }
  if (!dataset->sources().empty()) {
    ResolveSources(dataset, &resolution.violations);
    return resolution;
  }
  if (dataset->name().empty() && dataset->uri().empty()) {
    const std::string method = MethodName(*spec);
    const CatalogDataset* chosen = DefaultDataset(method);
    if (chosen == nullptr) {
      if (method.empty()) return resolution;  // ValidateSpec says so
      Violation& violation = resolution.violations.emplace_back();
      violation.set_field("dataset.name");
      violation.set_message(absl::StrCat("the catalog has no default dataset for ", method,
                                         "; name one (liger-cli datasets)"));
      return resolution;
    }
    dataset->set_name(chosen->name());
    resolution.notices.push_back(absl::StrCat("dataset: ", chosen->name(), ", the default for ",
                                              method, " (", chosen->description(), ")"));
  }
  if (dataset->uri().empty()) {
    const CatalogDataset* known = FindDataset(dataset->name());
    if (known == nullptr && !LooksLikePath(dataset->name())) {
      resolution.violations.push_back(
          UnknownName("dataset.name", "dataset", dataset->name(), datasets_));
    }
    dataset->set_uri(known == nullptr ? dataset->name() : known->uri());
    // The format is the evaluation file's, too, which need not be of the catalog.
    const bool alone = dataset->eval_uri().empty();
    if (known != nullptr && alone && dataset->format() == liger::v1::DATASET_FORMAT_AUTO) {
      dataset->set_format(known->format());
    }
  }
  return resolution;
}

}  // namespace liger::server
