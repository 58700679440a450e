#include "worker/trainer/data/unpacked_text.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <utility>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

// A file that has no name, so that nothing stays behind however the process ends.
UniqueFd OpenNameless(const std::string& folder) {
  UniqueFd file(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.valid() || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
  std::string name = folder + "/liger_unpacked_XXXXXX";
  UniqueFd named(mkostemp(name.data(), O_CLOEXEC));
  if (named.valid()) unlink(name.c_str());
  return named;
}

}  // namespace

UnpackedText::UnpackedText(std::string source, std::string scratch_dir, const char* done,
                           size_t most_in_memory)
    : source_(std::move(source)),
      scratch_dir_(scratch_dir.empty() ? std::filesystem::temp_directory_path().string()
                                       : std::move(scratch_dir)),
      done_(done),
      most_in_memory_(most_in_memory) {}

UnpackedText::~UnpackedText() {
  if (map_ != nullptr) munmap(map_, bytes_);
}

void UnpackedText::Append(std::string_view piece) {
  if (!file_.valid() && memory_.size() + piece.size() <= most_in_memory_) {
    memory_ += piece;
    return;
  }
  if (!file_.valid()) Spill();
  Write(piece);
}

std::string_view UnpackedText::Finish() {
  if (!file_.valid()) return memory_;
  void* map = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file_.get(), 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  map_ = static_cast<char*>(map);
  return {map_, bytes_};
}

void UnpackedText::Spill() {
  file_ = OpenNameless(scratch_dir_);
  if (!file_.valid()) Fail(errno);
  Write(memory_);
  memory_ = std::string();
}

void UnpackedText::Write(std::string_view piece) {
  while (!piece.empty()) {
    const ssize_t written = write(file_.get(), piece.data(), piece.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) Fail(written < 0 ? errno : ENOSPC);
    piece.remove_prefix(static_cast<size_t>(written));
    bytes_ += static_cast<size_t>(written);
  }
}

void UnpackedText::Fail(int error) const {
  throw TrainerError(
      liger::v1::FAILURE_CLASS_STORAGE,
      source_ + ": cannot be " + done_ + " to a file in " + scratch_dir_ + ": " +
          std::strerror(error),
      "free space there, or give the job a smaller file or one that is not packed")
      .File(source_);
}

}  // namespace liger::trainer
