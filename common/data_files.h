#ifndef LIGER_COMMON_DATA_FILES_H_
#define LIGER_COMMON_DATA_FILES_H_

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

// Holds a wildcard: *, ? or [.
bool IsPattern(std::string_view path);
// The folder above a pattern's first wildcard; "." when there is none.
std::string PatternFolder(std::string_view pattern);

// The files that `path` means, by name: itself when it is no folder; the data
// files that lie directly in a folder, or if none do in the folder data in it, as in the
// Hub's sets; what a pattern matches, in which * and ?
// stand for characters of one name, [a-z] for one of them and ** for folders at
// any depth. Hidden files have to be named, and so have the Hub's dataset_infos.json and the
// notes that Hugging Face datasets' save_to_disk writes beside .arrow files. NOT_FOUND, saying
// why, when there are none.
absl::StatusOr<std::vector<std::string>> MatchDataFiles(const std::string& path);

// What the rows of a folder are wanted for.
enum class SplitUse { kTraining, kEvaluation };
// Files by name, and those of the folder that are not wanted.
struct SplitFiles {
  std::vector<std::string> files, left_out;
};

// MatchDataFiles, but of a folder that holds files of the split train and of another one the
// former alone, or to evaluate the latter. Splits are told by the files' names, as Hugging Face
// datasets' load_dataset has it: train and training; validation, valid, val and dev; test, testing,
// eval and evaluation, each as a word (not of letters beside it) in any case; and NAME of
// NAME-00000-of-00001. A word of train's counts before others. FAILED_PRECONDITION, with what to
// name instead, when what is wanted is not one thing: training on files of several splits
// (train_sft-00000-of-00001 and train_gen-..., or test and val without train), and
// a file of a split that is there under two endings.
absl::StatusOr<SplitFiles> MatchSplitFiles(const std::string& path, SplitUse use);

}  // namespace liger

#endif  // LIGER_COMMON_DATA_FILES_H_
