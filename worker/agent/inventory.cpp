#include "worker/agent/inventory.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "worker/agent/log.h"
#include "worker/agent/model_facts.h"

namespace liger::agent {

using worker::v1::InventoryItem;

namespace {

namespace fs = std::filesystem;

// Deep enough for <root>/<owner>/<model>/snapshots/<revision>.
constexpr int kMaxDepth = 5;

std::vector<fs::directory_entry> SortedChildren(const std::string& dir) {
  std::error_code error;
  std::vector<fs::directory_entry> children;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string()[0] != '.') children.push_back(*it);
  }
  std::sort(children.begin(), children.end());
  return children;
}

// "name size mtime" of a regular file; empty for anything else.
std::string ManifestLine(const fs::directory_entry& entry) {
  std::error_code error;
  if (!entry.is_regular_file(error) || error) return "";
  const auto size = entry.file_size(error);
  if (error) return "";
  const auto time = entry.last_write_time(error).time_since_epoch().count();
  return absl::StrCat(entry.path().filename().string(), " ", size, " ", time, "\n");
}

// A Hello of at most 1 MiB holds more than the inventory.
constexpr size_t kMaxInventoryBytes = 768 << 10;
constexpr size_t kItemOverhead = 6;  // tag and length in the list

// Drops items until the list fits, first data files that the catalog does not
// name. Returns how many.
size_t Bound(std::vector<InventoryItem>& items) {
  size_t bytes = 0;
  for (const InventoryItem& item : items) bytes += item.ByteSizeLong() + kItemOverhead;
  if (bytes <= kMaxInventoryBytes) return 0;
  std::stable_partition(items.begin(), items.end(), [](const InventoryItem& item) {
    return item.kind() == "model" || !absl::StartsWith(item.uri(), "file://");
  });
  const size_t all = items.size();
  for (; bytes > kMaxInventoryBytes; items.pop_back()) {
    bytes -= items.back().ByteSizeLong() + kItemOverhead;
  }
  return all - items.size();
}

std::string FileUri(const std::string& path) { return absl::StrCat("file://", path); }

}  // namespace

std::vector<InventoryItem> Inventory::Scan(const std::vector<std::string>& catalog_uris) {
  std::vector<InventoryItem> items;
  ScanModels(models_->path(), 0, items);
  ScanDatasets(datasets_->path(), 0, items);

  std::map<std::string, const InventoryItem*> by_uri;
  for (const InventoryItem& item : items) by_uri[item.uri()] = &item;
  std::vector<InventoryItem> aliases;
  for (const std::string& uri : std::set<std::string>(catalog_uris.begin(), catalog_uris.end())) {
    if (by_uri.contains(uri)) continue;
    for (const Root* root : {models_, datasets_}) {
      absl::StatusOr<std::string> relative = root->Relative(uri);
      if (!relative.ok()) continue;
      auto it = by_uri.find(FileUri(absl::StrCat(root->path(), "/", *relative)));
      if (it == by_uri.end()) continue;
      aliases.push_back(*it->second);
      aliases.back().set_uri(uri);
      break;
    }
  }
  items.insert(items.end(), aliases.begin(), aliases.end());
  const size_t dropped = Bound(items);
  if (std::exchange(dropped_, dropped) != dropped && dropped > 0) {
    LogWarning("too many models and data sets below ", models_->path(), " and ", datasets_->path(),
               ": the coordinator does not hear of ", dropped, " of them; give narrower roots");
  }
  return items;
}

void Inventory::ScanModels(const std::string& dir, int depth, std::vector<InventoryItem>& items) {
  std::error_code error;
  if (fs::is_regular_file(dir + "/config.json", error)) {
    items.push_back(Model(dir));
    return;
  }
  if (depth == kMaxDepth) return;
  for (const fs::directory_entry& child : SortedChildren(dir)) {
    if (child.is_directory(error)) ScanModels(child.path().string(), depth + 1, items);
  }
}

void Inventory::ScanDatasets(const std::string& dir, int depth,
                             std::vector<InventoryItem>& items) const {
  std::error_code error;
  // A root shared by both kinds: JSON files of a model are not data.
  if (fs::is_regular_file(dir + "/config.json", error)) return;
  for (const fs::directory_entry& child : SortedChildren(dir)) {
    const std::string path = child.path().string();
    if (child.is_directory(error)) {
      if (depth < kMaxDepth) ScanDatasets(path, depth + 1, items);
      continue;
    }
    const std::string extension = child.path().extension();
    const std::string line = ManifestLine(child);
    if (line.empty() || (extension != ".json" && extension != ".jsonl")) continue;
    InventoryItem& item = items.emplace_back();
    item.set_kind("dataset");
    item.set_uri(FileUri(path));
    item.set_digest(Sha256(line));
  }
}

InventoryItem Inventory::Model(const std::string& dir) {
  std::string manifest;
  for (const fs::directory_entry& child : SortedChildren(dir)) manifest += ManifestLine(child);
  InventoryItem item;
  item.set_kind("model");
  item.set_uri(FileUri(dir));
  item.set_digest(Sha256(manifest));
  const ModelFacts facts = Facts(dir, item.digest());
  item.set_architecture(facts.architecture);
  item.set_parameters(facts.parameters);
  return item;
}

Inventory::ModelFacts Inventory::Facts(const std::string& dir, const std::string& digest) {
  const std::string key = absl::StrCat(dir, "@", digest);
  auto it = facts_.find(key);
  if (it != facts_.end()) return it->second;
  std::erase_if(facts_, [&](const auto& entry) { return entry.first.starts_with(dir + "@"); });
  return facts_[key] = {ModelArchitecture(dir), ModelParameters(dir)};
}

}  // namespace liger::agent
