#ifndef LIGER_COMMON_DATA_FILES_H_
#define LIGER_COMMON_DATA_FILES_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace liger {

// What the names of data files look like, and which files a dataset's path
// means: client, coordinator and trainer all have to know.

// Ends as a file of data does (kDataFileEndings).
bool NamesDataFile(std::string_view name);
inline constexpr char kDataFileEndings[] =
    ".json, .jsonl, .csv (each also with .gz or .zst), .parquet, .arrow";

// What NamesDataFile goes by: ".jsonl", ".csv.gz".
std::string DataEnding(const std::string& file);

// The split that a file's name tells (MatchSplitFiles has the rule): train, validation, test, or
// NAME in small letters; "" when none.
std::string SplitOf(const std::string& file);
// Of a split's name: its rows are to evaluate on.
bool IsHeldOut(std::string_view split);

// The files that these paths lead to; what is not there is left out.
std::set<std::string> RealPaths(const std::vector<std::string>& files);

// Holds a wildcard: *, ? or [.
bool IsPattern(std::string_view path);
// The folder above a pattern's first wildcard; "." when there is none.
std::string PatternFolder(std::string_view pattern);

// The files that `path` means, by name: itself when it is no folder; the data files that lie
// directly in a folder, or, as in the Hub's sets, in the folder data in it, if none do, or if those
// are of no split and data has one to train on; what a pattern matches, in which * and ? stand for
// characters of one name, [a-z] for one of them and ** for folders at any depth. Hidden files have
// to be named, and so have the Hub's dataset_infos.json, dataset_info.json (LLaMA-Factory's list of
// sets, too) and the other notes that Hugging Face datasets' save_to_disk writes beside .arrow
// files; where its state.json lists the latter, others are of an earlier write, and the same holds
// for them. NOT_FOUND, saying why, when there are none; DATA_LOSS when a folder lacks a file that
// is so listed.
absl::StatusOr<std::vector<std::string>> MatchDataFiles(const std::string& path);

// What the rows of a folder are wanted for.
enum class SplitUse { kTraining, kEvaluation };
// Files by name, and those of the folder that are not wanted.
struct SplitFiles {
  std::vector<std::string> files, left_out;
};

// MatchDataFiles, but of a folder that holds files of the split train and others the former alone,
// or to evaluate those of another split: of validation, where there is one of test, too, and of
// train, where there is none. Files of no split are train's where all splits that are named are
// validation or test. Splits are told by the files' names, as Hugging Face datasets' load_dataset
// has it: train and training; validation, valid, val and dev; test, testing, eval and evaluation,
// each as a word (not of letters beside it) in any case; and NAME of NAME-00000-of-00001, which is
// evaluated on where no other is held out. A word of train's counts before others.
// FAILED_PRECONDITION, with what to name instead, when what is wanted is not one thing: files of
// several splits (train_sft-00000-of-00001 and train_gen-..., to train test and val), rows that are
// there twice by the names of their files (two endings, a file beside shards, shards of two
// totals), files of a folder and of the folder data in it, of which either may be meant.
// ALREADY_EXISTS when the job trains on (`trained`) some of what there is to evaluate on.
absl::StatusOr<SplitFiles> MatchSplitFiles(const std::string& path, SplitUse use,
                                           const std::vector<std::string>& trained = {});

}  // namespace liger

#endif  // LIGER_COMMON_DATA_FILES_H_
