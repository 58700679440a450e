#include <fnmatch.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "common/data_files_folder.h"
#include "common/file.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

// What datasets' map, filter and shuffle keep beside sets that were loaded from there.
constexpr char kSetCache[] = "cache-*.arrow";

// The Hub's notes of a set.
constexpr char kHubNotes[] = "dataset_infos.json";

constexpr int64_t kLongestState = int64_t{16} << 20;  // of hundreds of thousands of shards

bool IsArrow(const fs::path& file) { return file.extension() == ".arrow"; }

struct SetFolder {
  bool holds_arrow = false, has_notes = false;
  std::set<fs::path> shards;  // of state.json
};

SetFolder LookAt(const fs::path& folder) {
  const Names names = NamesIn(folder), shards = SavedShards(folder.string());
  return {
      .holds_arrow = std::ranges::any_of(names, IsArrow),
      .has_notes = std::ranges::any_of(
          names, [](const std::string& name) { return name == kSetNotes || name == kSetState; }),
      .shards = {shards.begin(), shards.end()}};
}

bool IsNote(const fs::path& file, const SetFolder& folder) {
  if (!IsArrow(file)) return folder.holds_arrow || !folder.shards.empty();  // state.json
  if (!folder.shards.empty()) return !folder.shards.contains(file);
  return folder.has_notes && fnmatch(kSetCache, file.filename().c_str(), 0) == 0;
}

}  // namespace

Names SavedShards(const std::string& folder) {
  const fs::path path(folder);
  const auto json = ReadFile((path / kSetState).string(), kLongestState);
  google::protobuf::Struct state;
  if (!json.ok() || !google::protobuf::util::JsonStringToMessage(*json, &state).ok()) return {};
  Names shards;
  for (const auto& file : (*state.mutable_fields())["_data_files"].list_value().values()) {
    const auto& fields = file.struct_value().fields();
    const auto name = fields.find("filename");
    if (name == fields.end()) continue;
    const std::string& file_name = name->second.string_value();
    const bool lies_here = !file_name.empty() && !absl::StrContains(file_name, '/');
    if (lies_here) shards.push_back((path / file_name).string());
  }
  return shards;
}

void DropNotesOfSets(Names* files) {
  std::map<fs::path, SetFolder> folders;
  std::erase_if(*files, [&](const fs::path& file) {
    const std::string name = file.filename();
    if (name == kSplits || name == kHubNotes || name == kSetNotes) return true;
    if (!IsArrow(file) && name != kSetState) return false;
    const auto [it, is_new] = folders.try_emplace(file.parent_path());
    if (is_new) it->second = LookAt(file.parent_path());
    return IsNote(file, it->second);
  });
}

}  // namespace liger
