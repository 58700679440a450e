#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/data_files.h"
#include "common/data_files_folder.h"

namespace liger {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

// Whether a pattern means these files and no others.
bool Matches(const std::string& pattern, const Names& files) {
  const absl::StatusOr<Names> matches = MatchDataFiles(pattern);
  return matches.ok() && *matches == files;
}

// What a job is to name instead of the folder for the files of one split.
std::string PatternOf(const Names& files) {
  Names shards, named;
  for (const std::string& file : files) (ShardName(file).empty() ? named : shards).push_back(file);
  if (!shards.empty()) {
    const fs::path first = shards.front();
    const auto pattern = [&](const std::string& rest) {
      const std::string name = absl::StrCat(ShardName(first), rest, DataEnding(first));
      return (first.parent_path() / name).string();
    };
    // Beside NAME-more-00000-of-00001; beside NAME-00000-of-00002.
    const Names patterns = {pattern("-*"), pattern("-[0-9]*"),
                            pattern(absl::StrCat("-[0-9]*-of-", ShardTotal(first), "*"))};
    const auto fits = std::ranges::find_if(
        patterns, [&](const std::string& each) { return Matches(each, shards); });
    named.insert(named.begin(), fits == patterns.end() ? patterns[1] : *fits);
  }
  return Listed(named);
}

// The files of each split, by its name; each NAME of shards is one of its own.
std::map<std::string, Names> BySplit(const Names& files) {
  std::map<std::string, Names> splits;
  for (const std::string& file : files) {
    const std::string shard = ShardName(file), name = shard.empty() ? SplitOf(file) : shard;
    if (!name.empty()) splits[name].push_back(file);
  }
  return splits;
}

// The splits of files by name, those that Listed shows with what a job is to name for them.
Names NamedSplits(const Names& files) {
  Names named;
  for (const auto& [name, of_it] : BySplit(files)) {
    const bool shown = named.size() < kListed;
    named.push_back(shown ? absl::StrCat(name, " (", PatternOf(of_it), ")") : name);
  }
  return named;
}

// Why the files of a folder that a job would take are not of one split.
absl::Status RequireOneSplit(const std::string& folder, const Names& files, SplitUse use) {
  const Names named = NamedSplits(files);
  if (named.size() < 2) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the folder '", folder, "' holds several splits to ",
                   use == SplitUse::kTraining ? "train" : "evaluate", " on: ", Listed(named)));
}

// What the job trains on is no set to evaluate on.
absl::Status RequireHeldOut(const std::string& folder, const SplitFiles& split,
                            const Names& trained) {
  const std::set<std::string> used = RealPaths(trained);
  const auto is_used = [&](const std::string& file) { return used.contains(file); };
  if (std::ranges::none_of(RealPaths(split.files), is_used)) return absl::OkStatus();
  const Names named = NamedSplits(split.files);
  std::string why =
      absl::StrCat("the folder '", folder, "' holds no split to evaluate on, but ",
                   Listed(named.empty() ? split.files : named), ", which the job trains on");
  if (!split.left_out.empty()) {
    absl::StrAppend(
        &why, "; what it holds beside that is of no split by its name: ", Listed(split.left_out));
  }
  return absl::AlreadyExistsError(why);
}

// What is there as .jsonl and as .parquet, in one file and in shards, or in shards of two totals,
// as where it was written anew, would be read twice.
absl::Status RequireOneForm(const std::string& folder, const Names& files) {
  using Form = std::pair<std::string, std::string>;  // the ending; how many shards
  std::map<std::string, std::map<Form, Names>> stems;
  std::map<std::string, Names> same;
  for (const std::string& file : files) {
    const std::string shard = ShardName(file), ending = DataEnding(file);
    const std::string stem = shard.empty() ? file.substr(0, file.size() - ending.size())
                                           : (fs::path(file).parent_path() / shard).string();
    stems[stem][{ending, ShardTotal(file)}].push_back(file);
    same[stem].push_back(file);
  }
  for (const auto& [stem, forms] : stems) {
    if (forms.size() < 2) continue;
    const bool one_format = forms.begin()->first.first == forms.rbegin()->first.first;
    Names named;
    for (const auto& [form, of_it] : forms) named.push_back(PatternOf(of_it));
    std::string all = absl::StrCat(stem, ".*");
    if (!Matches(all, same[stem])) all = absl::StrCat(stem, "[-.]*");  // shards
    return absl::FailedPreconditionError(
        absl::StrCat("the folder '", folder, "' holds the same rows, by their files' names, ",
                     one_format ? "twice" : "in several formats", ": ", Listed(named),
                     Matches(all, same[stem]) ? " (all of them: " + all + ")" : ""));
  }
  return absl::OkStatus();
}

// Why a folder and the folder data in it are not told apart.
absl::Status IsAmbiguous(const std::string& folder, const Names& own) {
  const std::string all = absl::StrCat(folder, "/*", DataEnding(own.front()));
  Names named = NamedSplits(own);
  if (named.empty()) named = Matches(all, own) ? Names{all} : own;
  return absl::FailedPreconditionError(absl::StrCat(
      "the folder '", folder, "' holds data files (", Listed(named), "), and so does its folder ",
      kHubFolder, " (", (fs::path(folder) / kHubFolder).string(),
      "): only one of the two can be meant"));
}

// Where one split of validation and one of test are held out, the former is to evaluate on.
void LeaveTest(SplitFiles* selected) {
  const std::set<std::string> both = {"test", "validation"};
  if (BySplit(selected->files).size() != 2 || SplitsOf(selected->files) != both) return;
  const auto test = std::ranges::stable_partition(
      selected->files, [](const std::string& file) { return SplitOf(file) == "validation"; });
  selected->left_out.insert(selected->left_out.end(), test.begin(), test.end());
  selected->files.erase(test.begin(), test.end());
  std::ranges::sort(selected->left_out);
}

// Those of a folder's files that are wanted. Where all splits that are named are held out, what
// has no split's name is train; where none is, others than train are to evaluate on and, where
// there are none, train.
SplitFiles Select(const Names& files, SplitUse use) {
  const std::set<std::string> splits = SplitsOf(files);
  const bool has_train = HasTraining(splits) || !splits.contains("");
  const std::string train = has_train ? kTrainSplit : "";
  const bool any_held_out = std::ranges::any_of(splits, IsHeldOut);
  const auto is_other = [&](const std::string& split) {
    return any_held_out ? IsHeldOut(split) : split != train && !split.empty();
  };
  const bool others = use == SplitUse::kEvaluation && std::ranges::any_of(splits, is_other);
  SplitFiles selected;
  for (const std::string& file : files) {
    const std::string split = SplitOf(file);
    const bool as_wanted = others ? is_other(split) : split == train;
    (!splits.contains(train) || as_wanted ? selected.files : selected.left_out).push_back(file);
  }
  if (others) LeaveTest(&selected);
  return selected;
}

}  // namespace

absl::StatusOr<SplitFiles> MatchSplitFiles(const std::string& path, SplitUse use,
                                           const Names& trained) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    absl::StatusOr<Names> files = MatchDataFiles(path);
    if (!files.ok()) return files.status();
    return SplitFiles{.files = *std::move(files)};
  }
  const absl::StatusOr<FolderFiles> folder = LookInto(path);
  if (!folder.ok()) return folder.status();
  if (folder->ambiguous) return IsAmbiguous(path, folder->files);
  SplitFiles split = Select(folder->files, use);
  absl::Status fits =
      use == SplitUse::kEvaluation ? RequireHeldOut(path, split, trained) : absl::OkStatus();
  fits.Update(RequireOneSplit(path, split.files, use));
  fits.Update(RequireOneForm(path, split.files));
  if (!fits.ok()) return fits;
  split.left_out.insert(split.left_out.begin(), folder->beside.begin(), folder->beside.end());
  return split;
}

}  // namespace liger
