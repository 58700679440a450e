#include "worker/agent/inventory.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/data_files.h"
#include "common/file.h"
#include "common/file_state.h"
#include "worker/agent/log.h"
#include "worker/agent/model_facts.h"
#include "worker/trainer/chat_template_files.h"

namespace liger::agent {

using worker::v1::InventoryItem;

namespace {

namespace fs = std::filesystem;

// Deep enough for <root>/<owner>/<model>/snapshots/<revision>.
constexpr int kMaxDepth = 5;

// file_time_type::min() when it is not there.
fs::file_time_type ChangeTime(const std::string& dir) {
  std::error_code error;
  const fs::file_time_type time = fs::last_write_time(dir, error);
  return error ? fs::file_time_type::min() : time;
}

std::string FileUri(const std::string& path) { return absl::StrCat("file://", path); }

InventoryItem Item(const char* kind, const std::string& path, const std::string& digest) {
  InventoryItem item;
  item.set_kind(kind);
  item.set_uri(FileUri(path));
  item.set_digest(digest);
  return item;
}

// The item that `path` is when jobs may not use it: what they name is looked up in
// the same way (input_policy.h).
std::optional<InventoryItem> Refused(const char* kind, const std::string& path, const Root& root) {
  const absl::Status checked = root.Check(path);
  if (!absl::IsPermissionDenied(checked)) return std::nullopt;
  const std::string why(checked.message());
  InventoryItem item = Item(kind, path, Sha256(why));
  item.set_refused(why);
  return item;
}

std::optional<InventoryItem> RefusedLink(const char* kind, const fs::directory_entry& child,
                                         const Root& root) {
  std::error_code error;
  if (!child.is_symlink(error)) return std::nullopt;
  return Refused(kind, child.path().string(), root);
}

bool IsDataFile(const fs::path& path) { return NamesDataFile(path.filename().string()); }

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

}  // namespace

std::vector<InventoryItem> Inventory::Scan(const std::vector<std::string>& catalog_uris) {
  std::vector<InventoryItem> items;
  folders_.clear();
  ScanModels(models_->path(), 0, items);
  ScanDatasets(datasets_->path(), 0, items);

  std::map<std::string, const InventoryItem*> by_uri;
  for (const InventoryItem& item : items) by_uri[item.uri()] = &item;
  std::vector<InventoryItem> aliases;
  for (const std::string& uri : std::set<std::string>(catalog_uris.begin(), catalog_uris.end())) {
    if (by_uri.contains(uri)) continue;
    std::optional<InventoryItem> alias;
    for (const Root* root : {models_, datasets_}) {
      absl::StatusOr<std::string> relative = root->Relative(uri);
      if (!relative.ok()) continue;
      const std::string path = absl::StrCat(root->path(), "/", *relative);
      if (auto it = by_uri.find(FileUri(path)); it != by_uri.end()) {
        alias = *it->second;
        break;
      }
      // Behind a link that was not followed.
      if (!alias) alias = Refused(root == models_ ? "model" : "dataset", path, *root);
    }
    if (!alias) continue;
    alias->set_uri(uri);
    aliases.push_back(*std::move(alias));
  }
  items.insert(items.end(), aliases.begin(), aliases.end());
  const size_t dropped = Bound(items);
  if (std::exchange(dropped_, dropped) != dropped && dropped > 0) {
    LogWarning("too many models and data sets below ", models_->path(), " and ", datasets_->path(),
               ": the coordinator does not hear of ", dropped, " of them; give narrower roots");
  }
  return items;
}

bool Inventory::FoldersChanged() const {
  return std::any_of(folders_.begin(), folders_.end(),
                     [](const auto& folder) { return ChangeTime(folder.first) != folder.second; });
}

void Inventory::ScanModels(const std::string& dir, int depth, Items& items) {
  std::error_code error;
  if (fs::is_regular_file(dir + "/config.json", error)) {
    items.push_back(Model(dir));
    return;
  }
  if (depth == kMaxDepth) return;
  for (const fs::directory_entry& child : Children(dir)) {
    if (!child.is_directory(error)) continue;
    if (auto refused = RefusedLink("model", child, *models_)) {
      items.push_back(*std::move(refused));
    } else {
      ScanModels(child.path().string(), depth + 1, items);
    }
  }
}

void Inventory::ScanDatasets(const std::string& dir, int depth, Items& items) {
  std::error_code error;
  // A root shared by both kinds: JSON files of a model are not data.
  if (fs::is_regular_file(dir + "/config.json", error)) return;
  for (const fs::directory_entry& child : Children(dir)) {
    const std::string path = child.path().string();
    const bool folder = child.is_directory(error);
    if (!folder && !IsDataFile(path)) continue;
    if (auto refused = RefusedLink("dataset", child, *datasets_)) {
      items.push_back(*std::move(refused));
    } else if (folder) {
      if (depth < kMaxDepth) ScanDatasets(path, depth + 1, items);
    } else if (const std::string digest = FileStateDigest(child.path().filename().string(), path);
               !digest.empty()) {
      items.push_back(Item("dataset", path, digest));
    }
  }
}

// In order, without the hidden ones.
std::vector<fs::directory_entry> Inventory::Children(const std::string& dir) {
  // Before it is read: what comes meanwhile counts as a change.
  folders_[dir] = ChangeTime(dir);
  std::error_code error;
  std::vector<fs::directory_entry> children;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string()[0] != '.') children.push_back(*it);
  }
  std::sort(children.begin(), children.end());
  return children;
}

InventoryItem Inventory::Model(const std::string& dir) {
  // Before they are read: what comes meanwhile counts as a change.
  folders_[dir] = ChangeTime(dir);
  const std::string templates = absl::StrCat(dir, "/", trainer::kChatTemplatesFolder);
  std::error_code error;
  if (fs::is_directory(templates, error)) folders_[templates] = ChangeTime(templates);
  InventoryItem item = Item("model", dir, FolderStateDigest(dir, trainer::kChatTemplatesFolder));
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
