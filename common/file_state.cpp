#include "common/file_state.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/file.h"

namespace liger {
namespace {

namespace fs = std::filesystem;

std::string Time(const timespec& t) { return absl::StrCat(t.tv_sec, ".", t.tv_nsec); }

std::string FileStatesIn(const std::string& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string()[0] != '.') files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  std::string states;
  for (const fs::path& file : files) states += FileState(file.filename().string(), file.string());
  return states;
}

}  // namespace

std::string FileState(const std::string& name, const std::string& path) {
  struct stat s;
  if (stat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return "";
  return absl::StrCat(name, " ", s.st_size, " ", Time(s.st_mtim), " ", Time(s.st_ctim), " ",
                      s.st_ino, "\n");
}

std::string FileStateDigest(const std::string& name, const std::string& path) {
  const std::string state = FileState(name, path);
  return state.empty() ? "" : Sha256(state);
}

std::string FolderStateDigest(const std::string& folder, const std::string& subfolder) {
  std::string states = FileStatesIn(folder);
  const std::string below = absl::StrCat(folder, "/", subfolder);
  std::error_code error;
  if (fs::is_directory(below, error))
    absl::StrAppend(&states, subfolder, "\n", FileStatesIn(below));
  return Sha256(states);
}

std::string FileStatesDigest(const std::vector<std::string>& paths) {
  std::string states;
  for (const std::string& path : paths) {
    const std::string state = FileState(path, path);
    absl::StrAppend(&states, state.empty() ? absl::StrCat(path, " is not there\n") : state);
  }
  return Sha256(states);
}

}  // namespace liger
