#ifndef LIGER_COMMON_DATA_FILES_FOLDER_H_
#define LIGER_COMMON_DATA_FILES_FOLDER_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace liger {

// What data_files.cpp and data_files_splits.cpp share.

inline constexpr char kTrainSplit[] = "train";
// The folder that most of the Hub's sets have their files in.
inline constexpr char kHubFolder[] = "data";

// The first kListed of the names, and how many more there are.
inline constexpr size_t kListed = 8;
std::string Listed(std::vector<std::string> names);

// NAME of NAME-00000-of-00001.parquet; "" of others.
std::string ShardName(const std::string& file);

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
// meant.
FolderFiles LookInto(const std::string& folder);
// Of a folder in which LookInto finds no file.
absl::Status HoldsNoData(const std::string& folder);

}  // namespace liger

#endif  // LIGER_COMMON_DATA_FILES_FOLDER_H_
