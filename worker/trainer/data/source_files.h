#ifndef LIGER_WORKER_TRAINER_DATA_SOURCE_FILES_H_
#define LIGER_WORKER_TRAINER_DATA_SOURCE_FILES_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace liger::trainer {

// What a source's files hold, for the key of a cache.
class SourceFiles {
 public:
  // Notes which files these are now; call it before they are opened.
  explicit SourceFiles(std::vector<std::string> paths);

  // A line a file, "sha256:<hex>  <name>": the name's end decides how a file is read. Reads every
  // file the first time.
  const std::string& Digests() const;

  // Whether the files are still those of the constructor, by device, number, size and times.
  bool Unchanged() const;

 private:
  // Device, number, size, times of change; zeros: not there.
  using State = std::array<int64_t, 7>;
  static std::vector<State> StatesOf(const std::vector<std::string>& paths);

  const std::vector<std::string> paths_;
  const std::vector<State> states_;
  mutable std::string digests_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_SOURCE_FILES_H_
