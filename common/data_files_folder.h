#ifndef LIGER_COMMON_DATA_FILES_FOLDER_H_
#define LIGER_COMMON_DATA_FILES_FOLDER_H_

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace liger {

// What data_files.cpp, data_files_splits.cpp and data_files_saved.cpp share.

inline constexpr char kTrainSplit[] = "train";
// The folder that most of the Hub's sets have their files in.
inline constexpr char kHubFolder[] = "data";

// The first kListed of the names, and how many more there are.
inline constexpr size_t kListed = 8;
std::string Listed(std::vector<std::string> names);

// The names in a folder, so many at most; none when it cannot be read.
std::vector<std::string> NamesIn(const std::filesystem::path& folder,
                                 size_t most = std::vector<std::string>().max_size());

// What datasets' save_to_disk writes beside a set's .arrow files, and above the folders of several.
// kSetNotes is LLaMA-Factory's name for its list of sets, too, so that it is nowhere rows.
inline constexpr char kSetNotes[] = "dataset_info.json", kSetState[] = "state.json";
inline constexpr char kSplits[] = "dataset_dict.json";

// The files that a folder's state.json lists, which are what datasets' load_from_disk reads of it;
// none where there is no such list.
std::vector<std::string> SavedShards(const std::string& folder);

// Leaves the rows of sets that datasets wrote: what SavedShards has, where it has some, is all that
// a folder's .arrow files are.
void DropNotesOfSets(std::vector<std::string>* files);

// NAME and 00001 of NAME-00000-of-00001.parquet; "" of others.
std::string ShardName(const std::string& file);
std::string ShardTotal(const std::string& file);

// SplitOf each.
std::set<std::string> SplitsOf(const std::vector<std::string>& files);
// Whether one of the splits is named, and not to evaluate on.
bool HasTraining(const std::set<std::string>& splits);

// What a folder means.
struct FolderFiles {
  std::vector<std::string> files;
  std::vector<std::string> beside;  // that lie in it, where `files` are those of the folder data
  bool ambiguous = false;           // the folder data has files that may be meant instead
};

// Sorted. As on the Hub, of a folder and its folder data that which alone has splits' names is
// meant. NOT_FOUND when there are no files, DATA_LOSS when one of SavedShards is not there.
absl::StatusOr<FolderFiles> LookInto(const std::string& folder);

}  // namespace liger

#endif  // LIGER_COMMON_DATA_FILES_FOLDER_H_
