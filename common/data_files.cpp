#include "common/data_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/data_files_folder.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr char kAnyDepth[] = "**";

// The names in a folder, so many at most; none when it cannot be read.
Names NamesIn(const fs::path& folder, size_t most = Names().max_size()) {
  Names names;
  std::error_code error;
  for (fs::directory_iterator entry(folder.empty() ? "." : folder, error), end;
       !error && entry != end && names.size() < most; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  return names;
}

// Adds the files below `folder` that the rest of a pattern matches.
void Match(const fs::path& folder, fs::path::iterator part, fs::path::iterator end, Names* files) {
  std::error_code error;
  if (part == end) {
    if (fs::is_regular_file(folder, error)) files->push_back(folder.string());
    return;
  }
  const std::string pattern = part->string();
  const auto rest = std::next(part);
  if (pattern == kAnyDepth) {
    Match(folder, rest, end, files);
    for (const std::string& name : NamesIn(folder)) {
      const fs::path inner = folder / name;
      // A link may lead back up.
      if (!name.starts_with('.') && fs::is_directory(fs::symlink_status(inner, error))) {
        Match(inner, part, end, files);
      }
    }
  } else if (!IsPattern(pattern)) {
    Match(folder / pattern, rest, end, files);
  } else {
    for (const std::string& name : NamesIn(folder)) {
      if (fnmatch(pattern.c_str(), name.c_str(), FNM_PERIOD) == 0) {
        Match(folder / name, rest, end, files);
      }
    }
  }
}

// What datasets' save_to_disk writes beside a set's .arrow files, and above the folders of several.
// kSetNotes is LLaMA-Factory's name for its list of sets, too, so that it is nowhere rows.
constexpr char kSetNotes[] = "dataset_info.json", kSetState[] = "state.json";
constexpr char kSplits[] = "dataset_dict.json";

// ... and what map, filter and shuffle keep there of sets that were loaded from there.
constexpr char kSetCache[] = "cache-*.arrow";

// The Hub's notes of a set.
constexpr char kHubNotes[] = "dataset_infos.json";

struct SetFolder {
  bool holds_arrow = false, has_notes = false;
};

SetFolder LookAt(const fs::path& folder) {
  const Names names = NamesIn(folder.empty() ? "." : folder);
  return {
      .holds_arrow = std::ranges::any_of(
          names, [](const std::string& name) { return fs::path(name).extension() == ".arrow"; }),
      .has_notes = std::ranges::any_of(
          names, [](const std::string& name) { return name == kSetNotes || name == kSetState; })};
}

// Leaves the rows of sets that datasets wrote.
void DropNotesOfSets(Names* files) {
  std::map<fs::path, SetFolder> folders;
  std::erase_if(*files, [&](const fs::path file) {
    const std::string name = file.filename();
    if (name == kSplits || name == kHubNotes || name == kSetNotes) return true;
    const bool cache = fnmatch(kSetCache, name.c_str(), 0) == 0;
    if (!cache && name != kSetState) return false;
    const auto [it, is_new] = folders.try_emplace(file.parent_path());
    if (is_new) it->second = LookAt(file.parent_path());
    return cache ? it->second.has_notes : it->second.holds_arrow;
  });
}

// Those of the names in a folder that are data files, sorted.
Names FilesAmong(const fs::path& folder, const Names& names) {
  Names files;
  std::error_code error;
  for (const std::string& name : names) {
    const bool hidden = name.starts_with('.');
    if (!hidden && NamesDataFile(name) && fs::is_regular_file(folder / name, error)) {
      files.push_back((folder / name).string());
    }
  }
  DropNotesOfSets(&files);
  std::sort(files.begin(), files.end());
  return files;
}

// The data files that lie directly in a folder.
Names FilesIn(const fs::path& folder) { return FilesAmong(folder, NamesIn(folder)); }

// The folders below one, to so many levels, that hold data files; it looks at `left` names.
void AddDataFolders(const fs::path& root, const std::string& below, int levels, size_t* left,
                    Names* found) {
  constexpr size_t kMostOfOne = 1000;
  const fs::path folder = root / below;
  const Names names = NamesIn(folder, std::min(kMostOfOne, *left));
  *left -= names.size();
  if (!below.empty() && !FilesAmong(folder, names).empty()) {
    found->push_back(below);
  } else if (levels > 0) {
    std::error_code error;
    for (const std::string& name : names) {
      const bool is_folder = fs::is_directory(fs::symlink_status(folder / name, error));
      if (!is_folder || name.starts_with('.')) continue;
      AddDataFolders(root, absl::StrCat(below, name, "/"), levels - 1, left, found);
    }
  }
}

// Where the data files of a folder are instead, as far as the folders in it show.
std::string WhereInstead(const fs::path& folder) {
  size_t left = 20'000;
  Names below;
  AddDataFolders(folder, "", 2, &left, &below);
  std::sort(below.begin(), below.end());
  if (below.size() == 1) return absl::StrCat("; its data files are in ", below[0]);
  if (!below.empty()) {
    return absl::StrCat("; its data files are in ", Listed(below), ": name one of these folders");
  }
  std::error_code error;
  if (fs::exists(folder / kSplits, error)) {
    return absl::StrCat(", but ", kSplits, ": each split has a folder in it, to be named");
  }
  if (!fs::is_regular_file(folder / kSetNotes, error)) return "";
  return absl::StrCat("; ", kSetNotes, " is by its name a list of sets: where it holds rows, name ",
                      (folder / kSetNotes).string());
}

}  // namespace

std::string Listed(Names names) {
  const size_t more = names.size() - std::min(names.size(), kListed);
  names.resize(names.size() - more);
  return absl::StrCat(absl::StrJoin(names, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

std::string ShardName(const std::string& file) {
  constexpr char kShard[] = "-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*";
  const std::string name = fs::path(file).filename();
  for (size_t end = name.find('-'); end != std::string::npos; end = name.find('-', end + 1)) {
    if (fnmatch(kShard, name.c_str() + end, 0) == 0) return name.substr(0, end);
  }
  return "";
}

std::set<std::string> SplitsOf(const Names& files) {
  std::set<std::string> splits;
  for (const std::string& file : files) splits.insert(SplitOf(file));
  return splits;
}

bool HasTraining(const std::set<std::string>& splits) {
  return std::ranges::any_of(
      splits, [](const std::string& split) { return !split.empty() && !IsHeldOut(split); });
}

FolderFiles LookInto(const std::string& folder) {
  Names own = FilesIn(folder), in_data = FilesIn(fs::path(folder) / kHubFolder);
  if (own.empty()) return {.files = std::move(in_data)};
  if (in_data.empty()) return {.files = std::move(own)};
  const std::set<std::string> none = {""}, splits = SplitsOf(own), data_splits = SplitsOf(in_data);
  if (splits == none && HasTraining(data_splits)) {
    return {.files = std::move(in_data), .beside = std::move(own)};
  }
  return {.files = std::move(own), .ambiguous = data_splits != none || !HasTraining(splits)};
}

absl::Status HoldsNoData(const std::string& folder) {
  return absl::NotFoundError(absl::StrCat("the folder '", folder, "' holds no data file (",
                                          kDataFileEndings, ")", WhereInstead(folder)));
}

bool NamesDataFile(std::string_view name) {
  constexpr std::string_view kText[] = {".json", ".jsonl", ".csv"};
  if (name.ends_with(".parquet") || name.ends_with(".arrow")) return true;
  if (name.ends_with(".gz")) {
    name.remove_suffix(3);
  } else if (name.ends_with(".zst")) {
    name.remove_suffix(4);
  }
  return std::any_of(std::begin(kText), std::end(kText),
                     [name](std::string_view end) { return name.ends_with(end); });
}

std::string DataEnding(const std::string& file) {
  const fs::path path(file);
  const std::string end = path.extension();
  const bool packed = end == ".gz" || end == ".zst";
  return packed ? path.stem().extension().string() + end : end;
}

std::string SplitOf(const std::string& file) {
  static const std::map<absl::string_view, std::string> kWords = {
      {"train", kTrainSplit},  {"training", kTrainSplit}, {"validation", "validation"},
      {"valid", "validation"}, {"val", "validation"},     {"dev", "validation"},
      {"test", "test"},        {"testing", "test"},       {"eval", "test"},
      {"evaluation", "test"}};
  const std::string name = absl::AsciiStrToLower(fs::path(file).filename().string());
  std::string other;
  for (const absl::string_view word : absl::StrSplit(name, absl::ByAnyChar("-._ 0123456789"))) {
    const auto split = kWords.find(word);
    if (split == kWords.end()) continue;
    if (split->second == kTrainSplit) return kTrainSplit;
    if (other.empty()) other = split->second;
  }
  return other.empty() ? absl::AsciiStrToLower(ShardName(file)) : other;
}

bool IsHeldOut(std::string_view split) { return split == "validation" || split == "test"; }

std::set<std::string> RealPaths(const Names& files) {
  std::set<std::string> real;
  for (const std::string& file : files) {
    std::error_code error;
    const fs::path path = fs::canonical(file, error);
    if (!error) real.insert(path.string());
  }
  return real;
}

bool IsPattern(std::string_view path) {
  return path.find_first_of("*?[") != std::string_view::npos;
}

std::string PatternFolder(std::string_view pattern) {
  const size_t wildcard = std::min(pattern.find_first_of("*?["), pattern.size());
  const size_t slash = pattern.substr(0, wildcard).rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(pattern.substr(0, slash));
}

absl::StatusOr<std::vector<std::string>> MatchDataFiles(const std::string& path) {
  std::error_code error;
  Names files;
  if (fs::is_directory(path, error)) {
    files = LookInto(path).files;
    if (files.empty()) return HoldsNoData(path);
  } else if (fs::exists(path, error)) {  // also one with a wildcard in its name
    files = {path};
  } else if (IsPattern(path)) {
    const fs::path pattern(path);
    Match("", pattern.begin(), pattern.end(), &files);
    DropNotesOfSets(&files);
    if (files.empty()) {
      return absl::NotFoundError(absl::StrCat("the pattern '", path, "' matches no file"));
    }
  } else {
    return absl::NotFoundError(absl::StrCat("'", path, "' does not exist"));
  }
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());  // a/**/**/b
  return files;
}

}  // namespace liger
