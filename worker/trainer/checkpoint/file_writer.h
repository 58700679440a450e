#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_FILE_WRITER_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_FILE_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "worker/trainer/checkpoint/sha256.h"
#include "worker/trainer/error.h"

namespace liger::trainer {

// A failed write as TrainerError (STORAGE): the path, the system's reason, the
// bytes needed (0: unknown) and those free on that file system.
TrainerError StorageError(const std::string& what, const std::string& path, int error,
                          int64_t bytes_needed);

// Bytes that an unprivileged process may still write where `path`, or its
// nearest existing parent, lies; -1 when that cannot be told.
int64_t FreeBytes(const std::string& path);

// Throws STORAGE when there is less.
void RequireFreeBytes(const std::string& path, int64_t bytes);

struct FileDigest {
  int64_t bytes = 0;
  std::string sha256;  // hexadecimal
};

// Writes one new file, digesting it on the way. Throws StorageError.
class FileWriter {
 public:
  // bytes_needed: of the whole save, for messages.
  FileWriter(const std::string& path, int64_t bytes_needed);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void Write(std::string_view bytes);
  // Flushes to the disk and closes. Call once, last.
  FileDigest Close();

 private:
  const std::string path_;
  const int64_t bytes_needed_;
  int fd_;
  int64_t bytes_ = 0;
  Sha256 sha256_;
};

// Makes a folder's entries durable.
void SyncFolder(const std::string& dir);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_FILE_WRITER_H_
