#ifndef LIGER_SERVER_CATALOG_CATALOG_H_
#define LIGER_SERVER_CATALOG_CATALOG_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "liger/v1/fine_tuning.pb.h"
#include "liger/v1/job_spec.pb.h"

namespace liger::server {

// What a name in a job became.
struct CatalogResolution {
  // Unknown names (with near matches), a missing model, no default dataset.
  std::vector<liger::v1::Violation> violations;
  // What was chosen for the user, e.g. the trainer's default dataset.
  std::vector<std::string> notices;
};

// Names of models and datasets, from a YAML file (docs in
// default_catalog.yaml). Immutable, so every thread may read it.
class Catalog {
 public:
  // The catalog that ships with the coordinator, compiled in.
  static const Catalog& Default();
  // INVALID_ARGUMENT names the file, the line and what is wrong; NOT_FOUND.
  static absl::StatusOr<Catalog> FromFile(const std::string& path);
  // `source` names the text in errors.
  static absl::StatusOr<Catalog> FromYaml(absl::string_view yaml, absl::string_view source);

  const std::vector<liger::v1::CatalogModel>& models() const { return models_; }
  const std::vector<liger::v1::CatalogDataset>& datasets() const { return datasets_; }
  // nullptr when unknown.
  const liger::v1::CatalogModel* FindModel(absl::string_view name) const;
  const liger::v1::CatalogDataset* FindDataset(absl::string_view name) const;
  // `method`: one of kTrainableMethods.
  const liger::v1::CatalogDataset* DefaultDataset(absl::string_view method) const;

  // "; the catalog has no dataset of that name; near: a, b", of a name that was taken for a path;
  // "" where none is near.
  std::string NearDatasets(const std::string& name) const;

  // URIs of every entry, for Welcome.catalog_uris.
  const std::set<std::string>& uris() const { return uris_; }

  // Pins spec->model and spec->dataset: a catalog name to its URI (and the
  // dataset's format), a path or file:// URI to itself, no dataset to the
  // method's default. Leaves a URI that is given alone, but for a source's, which
  // may be a catalog name.
  CatalogResolution Resolve(liger::v1::JobSpec* spec) const;

 private:
  void ResolveSources(liger::v1::DatasetSpec* dataset,
                      std::vector<liger::v1::Violation>* violations) const;

  std::vector<liger::v1::CatalogModel> models_;
  std::vector<liger::v1::CatalogDataset> datasets_;
  std::set<std::string> uris_;
};

// Up to three of `candidates` that are close to `name` (edit distance, or one
// contains the other), nearest first.
std::vector<std::string> NearMatches(absl::string_view name,
                                     const std::vector<std::string>& candidates);

}  // namespace liger::server

#endif  // LIGER_SERVER_CATALOG_CATALOG_H_
