#include "worker/trainer/data/source_files.h"

#include <sys/stat.h>

#include <filesystem>
#include <utility>

#include "common/file.h"
#include "worker/trainer/error.h"

namespace liger::trainer {

SourceFiles::SourceFiles(std::vector<std::string> paths)
    : paths_(std::move(paths)), states_(StatesOf(paths_)) {}

const std::string& SourceFiles::Digests() const {
  if (!digests_.empty()) return digests_;
  std::string lines;
  for (const std::string& path : paths_) {
    const absl::StatusOr<std::string> digest = Sha256File(path);
    if (!digest.ok()) {
      throw DataError(std::string(digest.status().message()),
                      "Check the path, and that the worker may read the file.")
          .File(path);
    }
    lines += *digest + "  " + std::filesystem::path(path).filename().string() + "\n";
  }
  return digests_ = lines;
}

bool SourceFiles::Unchanged() const { return StatesOf(paths_) == states_; }

std::vector<SourceFiles::State> SourceFiles::StatesOf(const std::vector<std::string>& paths) {
  std::vector<State> states;
  for (const std::string& path : paths) {
    State& state = states.emplace_back();
    struct stat s;
    if (stat(path.c_str(), &s) != 0) continue;
    state = {static_cast<int64_t>(s.st_dev),
             static_cast<int64_t>(s.st_ino),
             static_cast<int64_t>(s.st_size),
             s.st_mtim.tv_sec,
             s.st_mtim.tv_nsec,
             s.st_ctim.tv_sec,
             s.st_ctim.tv_nsec};
  }
  return states;
}

}  // namespace liger::trainer
