#include "server/store/worker_files.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/model_shapes/model_shapes.h"

namespace liger::server {
namespace {

using liger::worker::v1::InventoryItem;

const InventoryItem* InInventory(const WorkerRow& worker, absl::string_view kind,
                                 const std::string& root, const std::string& uri) {
  const auto& items = worker.hello.inventory();
  const auto found = std::find_if(items.begin(), items.end(), [&](const InventoryItem& item) {
    return item.kind() == kind && SameUri(item.uri(), uri, root);
  });
  return found == items.end() ? nullptr : &*found;
}

const InventoryItem* Model(const WorkerRow& worker, const std::string& uri) {
  return InInventory(worker, "model", worker.hello.model_root(), uri);
}

const InventoryItem* Dataset(const WorkerRow& worker, const std::string& uri) {
  return InInventory(worker, "dataset", worker.hello.dataset_root(), uri);
}

// Of what trains there; empty: it does not say.
std::string CodeDigest(const WorkerRow& worker) {
  const InventoryItem* item = InInventory(worker, "code", "", "");
  return item == nullptr ? "" : item->digest();
}

std::string Refusal(const WorkerRow& worker, const InventoryItem* item) {
  if (item == nullptr || item->refused().empty()) return "";
  return absl::StrCat("worker ", worker.worker_id, " refuses it: ", item->refused());
}

}  // namespace

std::string PathBelow(const std::string& root, const std::string& uri) {
  const absl::string_view path = absl::StripPrefix(uri, "file://");
  if (root.empty() || absl::StartsWith(path, "/")) return std::string(path);
  return absl::StrCat(absl::StripSuffix(root, "/"), "/", path);
}

bool SameUri(const std::string& a, const std::string& b, const std::string& root) {
  const std::string prefix = root.empty() ? "" : absl::StrCat(absl::StripSuffix(root, "/"), "/");
  const auto strip = [&prefix](const std::string& uri) {
    absl::string_view path = absl::StripPrefix(uri, "file://");
    if (!prefix.empty()) path = absl::StripPrefix(path, prefix);
    return absl::StripSuffix(absl::StripPrefix(path, "./"), "/");
  };
  return strip(a) == strip(b);
}

bool HasModel(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Model(worker, uri);
  return item != nullptr && item->refused().empty();
}

bool HasDataset(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Dataset(worker, uri);
  return item != nullptr && item->refused().empty();
}

std::string ModelDigest(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Model(worker, uri);
  return item == nullptr ? "" : item->digest();
}

std::string DatasetDigest(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Dataset(worker, uri);
  return item == nullptr ? "" : item->digest();
}

bool NeedsNoModelFolder(const liger::v1::JobSpec& spec) {
  return spec.model().random_init() && FindModelShape(spec.model().name()) != nullptr;
}

std::vector<FileDigest> FileDigests(const WorkerRow& worker, const liger::v1::JobSpec& spec) {
  // Random weights of a known shape need no folder; one that is there is read.
  std::string model = ModelDigest(worker, spec.model().uri());
  if (model.empty() && NeedsNoModelFolder(spec)) model = "shape";
  std::vector<FileDigest> digests = {{"code", CodeDigest(worker)},
                                     {"model files", std::move(model)}};
  const auto& dataset = spec.dataset();
  if (dataset.sources().empty()) {
    digests.push_back({"dataset file", DatasetDigest(worker, dataset.uri())});
  }
  for (int i = 0; i < dataset.sources_size(); ++i) {
    digests.push_back({absl::StrCat("dataset file ", i + 1),
                       DatasetDigest(worker, dataset.sources(i).uri())});
  }
  if (!dataset.eval_uri().empty()) {
    digests.push_back({"evaluation file", DatasetDigest(worker, dataset.eval_uri())});
  }
  if (!spec.lora().adapter_uri().empty()) digests.push_back({"adapter files", ""});
  if (!spec.training().resume_from_checkpoint().empty()) {
    digests.push_back({"checkpoint files", ""});
  }
  return digests;
}

std::string ModelRefusal(const WorkerRow& worker, const std::string& uri) {
  return Refusal(worker, Model(worker, uri));
}

std::string DatasetRefusal(const WorkerRow& worker, const std::string& uri) {
  return Refusal(worker, Dataset(worker, uri));
}

}  // namespace liger::server
