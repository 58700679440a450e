#ifndef LIGER_WORKER_TRAINER_DATA_DATA_TEXT_H_
#define LIGER_WORKER_TRAINER_DATA_DATA_TEXT_H_

#include <memory>
#include <string>
#include <string_view>

#include "worker/trainer/data/unpacked_text.h"
#include "worker/trainer/mapped_file.h"

namespace liger::trainer {

// What to do about text that is not UTF-8.
inline constexpr char kMakeUtf8[] =
    "Save the file as UTF-8; where it is Latin-1, such as with iconv -f latin1 -t utf8.";

// A file of data. Throws TrainerError (DATA) when it cannot be read.
std::unique_ptr<const MappedFile> MapDataFile(const std::string& path);

// The text of a file of data: mapped, or unpacked (unpacked_text.h) when its content
// is gzip's (RFC 1952, several members too) or zstd's (RFC 8878, several frames
// too), whatever its name. A mapped text takes no memory that the system could not
// take back.
class DataText {
 public:
  // Throws TrainerError (DATA): the file cannot be read, is UTF-16 or UTF-32, or its
  // packed stream is cut short or damaged (with the byte).
  explicit DataText(const std::string& path, const std::string& scratch_dir = "");

  const std::string& path() const { return file_->path(); }
  // Without a UTF-8 byte order mark.
  std::string_view view() const { return view_; }
  // See MappedFile.
  void RequireWhole() const {
    if (!unpacked_) file_->RequireWhole();
  }

 private:
  std::unique_ptr<const MappedFile> file_;
  std::unique_ptr<UnpackedText> unpacked_;
  std::string_view view_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_DATA_TEXT_H_
