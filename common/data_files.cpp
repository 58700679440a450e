#include "common/data_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/data_files_folder.h"
#include "common/file.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr char kAnyDepth[] = "**";

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

// The data files that lie directly in a folder, and those that are said to be there.
Names FilesIn(const fs::path& folder) {
  Names files = FilesAmong(folder, NamesIn(folder));
  const Names listed = SavedShards(folder.string());
  files.insert(files.end(), listed.begin(), listed.end());
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

constexpr size_t kMostOfOne = 1000;

// Whether LookInto finds files in a folder of these names.
bool HoldsData(const fs::path& folder, const Names& names) {
  const fs::path data = folder / kHubFolder;
  return !FilesAmong(folder, names).empty() || !FilesAmong(data, NamesIn(data, kMostOfOne)).empty();
}

// The folders below one, to so many levels, that hold data files; it looks at `left` names.
void AddDataFolders(const fs::path& root, const std::string& below, int levels, size_t* left,
                    Names* found) {
  const fs::path folder = root / below;
  const Names names = NamesIn(folder, std::min(kMostOfOne, *left));
  *left -= names.size();
  if (!below.empty() && HoldsData(folder, names)) {
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

// Where the Hub's cache of a set (datasets--ORG--NAME) has its revisions, or the one that main is;
// "" of other folders.
std::string CachedRevisions(const fs::path& folder) {
  constexpr char kSnapshots[] = "snapshots/";
  std::error_code error;
  const bool is_cache =
      fs::is_directory(folder / kSnapshots, error) && fs::is_directory(folder / "blobs", error);
  if (!is_cache) return "";
  const std::string main = ReadFile((folder / "refs/main").string()).value_or("");
  const absl::string_view revision = absl::StripAsciiWhitespace(main);
  if (revision.empty() || absl::StrContains(revision, '/')) return kSnapshots;
  const std::string of_main = absl::StrCat(kSnapshots, revision, "/");
  return fs::is_directory(folder / of_main, error) ? of_main : kSnapshots;
}

// Where the data files of a folder are instead, as far as the folders in it show.
std::string WhereInstead(const fs::path& folder) {
  size_t left = 20'000;
  Names below;
  AddDataFolders(folder, CachedRevisions(folder), 2, &left, &below);
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

absl::Status HoldsNoData(const std::string& folder) {
  return absl::NotFoundError(absl::StrCat("the folder '", folder, "' holds no data file (",
                                          kDataFileEndings, ")", WhereInstead(folder)));
}

// Those that are said to be in a folder are.
absl::Status RequireThere(const std::string& folder, Names files) {
  std::error_code error;
  std::erase_if(files, [&](const std::string& file) { return fs::is_regular_file(file, error); });
  if (files.empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the folder '", folder, "' lacks ", Listed(files),
                                          ", which its ", kSetState, " lists"));
}

// As on the Hub, of a folder and its folder data that which alone has splits' names is meant.
FolderFiles Choose(Names own, Names in_data) {
  if (own.empty()) return {.files = std::move(in_data)};
  if (in_data.empty()) return {.files = std::move(own)};
  const std::set<std::string> none = {""}, splits = SplitsOf(own), data_splits = SplitsOf(in_data);
  if (splits == none && HasTraining(data_splits)) {
    return {.files = std::move(in_data), .beside = std::move(own)};
  }
  return {.files = std::move(own), .ambiguous = data_splits != none || !HasTraining(splits)};
}

// Where "-00000-of-00001" begins in a file's name; npos where it does not, or nothing is before.
size_t ShardAt(const std::string& name) {
  constexpr char kShard[] = "-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*";
  size_t at = name.find('-', 1);
  while (at != std::string::npos && fnmatch(kShard, name.c_str() + at, 0) != 0) {
    at = name.find('-', at + 1);
  }
  return at;
}

}  // namespace

Names NamesIn(const fs::path& folder, size_t most) {
  Names names;
  std::error_code error;
  for (fs::directory_iterator entry(folder.empty() ? "." : folder, error), end;
       !error && entry != end && names.size() < most; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  return names;
}

std::string Listed(Names names) {
  const size_t more = names.size() - std::min(names.size(), kListed);
  names.resize(names.size() - more);
  return absl::StrCat(absl::StrJoin(names, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

std::string ShardName(const std::string& file) {
  const std::string name = fs::path(file).filename();
  const size_t at = ShardAt(name);
  return at == std::string::npos ? "" : name.substr(0, at);
}

std::string ShardTotal(const std::string& file) {
  const std::string name = fs::path(file).filename();
  const size_t at = ShardAt(name);
  return at == std::string::npos ? "" : name.substr(at + std::strlen("-00000-of-"), 5);
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

absl::StatusOr<FolderFiles> LookInto(const std::string& folder) {
  FolderFiles chosen = Choose(FilesIn(folder), FilesIn(fs::path(folder) / kHubFolder));
  if (chosen.files.empty()) return HoldsNoData(folder);
  if (absl::Status there = RequireThere(folder, chosen.files); !there.ok()) return there;
  return chosen;
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
    absl::StatusOr<FolderFiles> folder = LookInto(path);
    if (!folder.ok()) return folder.status();
    files = std::move(folder->files);
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
