#include "common/data_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr char kAnyDepth[] = "**";

// The names in a folder; none when it cannot be read.
Names NamesIn(const fs::path& folder) {
  Names names;
  std::error_code error;
  for (fs::directory_iterator entry(folder.empty() ? "." : folder, error), end;
       !error && entry != end; entry.increment(error)) {
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
constexpr char kSetNotes[] = "dataset_info.json", kSetState[] = "state.json";
constexpr char kSplits[] = "dataset_dict.json";

// ... and what map, filter and shuffle keep there of sets that were loaded from there.
constexpr char kSetCache[] = "cache-*.arrow";

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
    if (name == kSplits) return true;
    const bool cache = fnmatch(kSetCache, name.c_str(), 0) == 0;
    if (!cache && name != kSetNotes && name != kSetState) return false;
    const auto [it, is_new] = folders.try_emplace(file.parent_path());
    if (is_new) it->second = LookAt(file.parent_path());
    return cache ? it->second.has_notes : it->second.holds_arrow;
  });
}

Names FilesIn(const fs::path& folder) {
  Names files;
  std::error_code error;
  for (const std::string& name : NamesIn(folder)) {
    const bool hidden = name.starts_with('.');
    if (!hidden && NamesDataFile(name) && fs::is_regular_file(folder / name, error)) {
      files.push_back((folder / name).string());
    }
  }
  return files;
}

enum class NamedSplit { kNone, kTrain, kOther };

NamedSplit SplitOf(const fs::path& file) {
  static const std::set<absl::string_view> kTrain = {"train", "training"};
  static const std::set<absl::string_view> kOthers = {
      "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"};
  constexpr char kShard[] = "*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*";
  const std::string name = absl::AsciiStrToLower(file.filename().string());
  bool other = fnmatch(kShard, name.c_str(), 0) == 0;
  for (const absl::string_view word : absl::StrSplit(name, absl::ByAnyChar("-._ 0123456789"))) {
    if (kTrain.contains(word)) return NamedSplit::kTrain;
    other = other || kOthers.contains(word);
  }
  return other ? NamedSplit::kOther : NamedSplit::kNone;
}

}  // namespace

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
    files = FilesIn(path);
    DropNotesOfSets(&files);
    if (files.empty()) {
      const bool splits = fs::exists(fs::path(path) / kSplits, error);
      return absl::NotFoundError(absl::StrCat(
          "the folder '", path, "' holds no data file (", kDataFileEndings, ")",
          splits ? absl::StrCat(", but ", kSplits, ": each split has a folder in it, to be named")
                 : ""));
    }
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

absl::StatusOr<SplitFiles> MatchSplitFiles(const std::string& path, SplitUse use) {
  const absl::StatusOr<Names> files = MatchDataFiles(path);
  if (!files.ok()) return files.status();
  const auto holds = [&](NamedSplit split) {
    return std::ranges::any_of(*files, [&](const auto& file) { return SplitOf(file) == split; });
  };
  std::error_code error;
  const bool several =
      fs::is_directory(path, error) && holds(NamedSplit::kTrain) && holds(NamedSplit::kOther);
  if (!several) return SplitFiles{.files = *files};
  const auto wanted = use == SplitUse::kTraining ? NamedSplit::kTrain : NamedSplit::kOther;
  SplitFiles split;
  for (const std::string& file : *files) {
    (SplitOf(file) == wanted ? split.files : split.left_out).push_back(file);
  }
  return split;
}

}  // namespace liger
