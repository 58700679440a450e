#ifndef LIGER_WORKER_TRAINER_DATA_UNPACKED_TEXT_H_
#define LIGER_WORKER_TRAINER_DATA_UNPACKED_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "common/unique_fd.h"

namespace liger::trainer {

// What a packed file unpacks to: in memory while it is short, else in a file without a
// name in `scratch_dir` (empty: the system's folder for temporary files), which is mapped
// and goes with this object.
class UnpackedText {
 public:
  static constexpr size_t kMostInMemory = size_t{16} << 20;

  // `source`: the packed file or whatever is kept so, and what is done to it, for messages.
  UnpackedText(std::string source, std::string scratch_dir, const char* done = "unpacked",
               size_t most_in_memory = kMostInMemory);
  ~UnpackedText();
  UnpackedText(const UnpackedText&) = delete;
  UnpackedText& operator=(const UnpackedText&) = delete;

  // Throws TrainerError (STORAGE) when the scratch folder has no room.
  void Append(std::string_view piece);
  // All of it; after the last Append.
  std::string_view Finish();

 private:
  void Spill();
  void Write(std::string_view piece);
  [[noreturn]] void Fail(int error) const;

  const std::string source_, scratch_dir_;
  const char* const done_;
  const size_t most_in_memory_;
  std::string memory_;
  UniqueFd file_;
  char* map_ = nullptr;
  size_t bytes_ = 0;  // in the file
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_UNPACKED_TEXT_H_
