#include "common/data_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr char kAnyDepth[] = "**";
constexpr char kTrainSplit[] = "train";

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

// The Hub's notes of a set, and the folder that most sets there have their files in.
constexpr char kHubNotes[] = "dataset_infos.json", kHubFolder[] = "data";

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
    if (name == kSplits || name == kHubNotes) return true;
    const bool cache = fnmatch(kSetCache, name.c_str(), 0) == 0;
    if (!cache && name != kSetNotes && name != kSetState) return false;
    const auto [it, is_new] = folders.try_emplace(file.parent_path());
    if (is_new) it->second = LookAt(file.parent_path());
    return cache ? it->second.has_notes : it->second.holds_arrow;
  });
}

// The first of the names, and how many more there are.
std::string Listed(Names names) {
  constexpr size_t kNamed = 8;
  const size_t more = names.size() - std::min(names.size(), kNamed);
  names.resize(names.size() - more);
  return absl::StrCat(absl::StrJoin(names, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

// The data files that lie directly in a folder.
Names FilesIn(const fs::path& folder) {
  Names files;
  std::error_code error;
  for (const std::string& name : NamesIn(folder)) {
    const bool hidden = name.starts_with('.');
    if (!hidden && NamesDataFile(name) && fs::is_regular_file(folder / name, error)) {
      files.push_back((folder / name).string());
    }
  }
  DropNotesOfSets(&files);
  return files;
}

// Where the data files of a folder are instead, as far as the folders in it show.
std::string WhereInstead(const fs::path& folder) {
  std::error_code error;
  Names below;
  for (const std::string& name : NamesIn(folder)) {
    const bool is_folder = fs::is_directory(fs::symlink_status(folder / name, error));
    if (is_folder && !name.starts_with('.') && !FilesIn(folder / name).empty()) {
      below.push_back(name + "/");
    }
  }
  std::sort(below.begin(), below.end());
  if (below.size() == 1) return absl::StrCat("; its data files are in ", below[0]);
  if (!below.empty()) {
    return absl::StrCat("; its data files are in ", Listed(below), ": name one of these folders");
  }
  if (!fs::exists(folder / kSplits, error)) return "";
  return absl::StrCat(", but ", kSplits, ": each split has a folder in it, to be named");
}

// NAME of NAME-00000-of-00001.parquet; "" of others.
std::string ShardName(const fs::path& file) {
  constexpr char kShard[] = "-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*";
  const std::string name = file.filename();
  for (size_t end = name.find('-'); end != std::string::npos; end = name.find('-', end + 1)) {
    if (fnmatch(kShard, name.c_str() + end, 0) == 0) return name.substr(0, end);
  }
  return "";
}

// What a job is to name instead of the folder for the files of one split.
std::string PatternOf(const Names& files) {
  const fs::path first = files.front();
  const std::string shard = ShardName(first);
  if (shard.empty()) return Listed(files);
  const auto pattern = [&](const char* rest) {
    return (first.parent_path() / absl::StrCat(shard, rest, DataEnding(first))).string();
  };
  const absl::StatusOr<Names> matches = MatchDataFiles(pattern("-*"));
  return pattern(matches.ok() && *matches == files ? "-*" : "-[0-9]*");  // beside NAME-more-...
}

// Why the files of a folder that a job would train on are not of one split.
absl::Status RequireOneSplit(const std::string& folder, const Names& files) {
  std::map<std::string, Names> splits;
  for (const std::string& file : files) {
    const std::string shard = ShardName(file), name = shard.empty() ? SplitOf(file) : shard;
    if (!name.empty()) splits[name].push_back(file);
  }
  if (splits.size() < 2) return absl::OkStatus();
  Names named;
  for (const auto& [name, of_it] : splits) {
    named.push_back(absl::StrCat(name, " (", PatternOf(of_it), ")"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the folder '", folder, "' holds several splits to train on: ", Listed(named)));
}

// A split that is there as .jsonl and as .parquet would be read twice.
absl::Status RequireOneFormat(const std::string& folder, const Names& files) {
  std::map<std::string, Names> same;  // but for the ending
  for (const std::string& file : files) {
    if (SplitOf(file).empty()) continue;
    same[file.substr(0, file.size() - DataEnding(file).size())].push_back(file);
  }
  for (const auto& [stem, formats] : same) {
    if (formats.size() < 2) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "the folder '", folder, "' holds the same split in several formats: ", Listed(formats),
        " (all of them: ", stem, ".*)"));
  }
  return absl::OkStatus();
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
    if (files.empty()) files = FilesIn(fs::path(path) / kHubFolder);
    if (files.empty()) {
      return absl::NotFoundError(absl::StrCat("the folder '", path, "' holds no data file (",
                                              kDataFileEndings, ")", WhereInstead(path)));
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
  std::error_code error;
  if (!fs::is_directory(path, error)) return SplitFiles{.files = *files};
  const auto is_train = [](const std::string& file) { return SplitOf(file) == kTrainSplit; };
  const auto is_other = [&](const std::string& file) {
    return !is_train(file) && !SplitOf(file).empty();
  };
  const bool several =
      std::ranges::any_of(*files, is_train) && std::ranges::any_of(*files, is_other);
  const bool training = use == SplitUse::kTraining;
  SplitFiles split;
  for (const std::string& file : *files) {
    const bool wanted = !several || (training ? is_train(file) : is_other(file));
    (wanted ? split.files : split.left_out).push_back(file);
  }
  if (training) {
    if (absl::Status one = RequireOneSplit(path, split.files); !one.ok()) return one;
  }
  if (absl::Status one = RequireOneFormat(path, split.files); !one.ok()) return one;
  return split;
}

}  // namespace liger
