#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_OUTPUT_FOLDER_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_OUTPUT_FOLDER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "worker/trainer/checkpoint/file_writer.h"

namespace liger::trainer {

inline constexpr char kManifestName[] = "manifest.json";

struct SavedFolder {
  std::string dir;
  std::string manifest_digest;  // "sha256:<hex>" of manifest.json
  int64_t bytes = 0;            // of all files but the manifest
};

// A folder that appears whole or not at all: files go to a hidden folder beside
// it, which Commit makes durable and renames. Without Commit nothing stays
// behind; what a killed process left is removed by the next save to `dir`.
class OutputFolder {
 public:
  // Throws CONFIG when `dir` exists and may not be replaced (only an empty
  // folder or one with a manifest.json ever is), STORAGE when the disk has less
  // than bytes_needed free, or the folder cannot be made.
  OutputFolder(const std::string& dir, bool overwrite, int64_t bytes_needed);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  // `name` may have folders in it. All throw STORAGE. A file that Create gave
  // is recorded by Finish, which closes it.
  std::unique_ptr<FileWriter> Create(const std::string& name);
  void Finish(const std::string& name, FileWriter* file);
  void Write(const std::string& name, std::string_view content);
  // `bytes`: no more of it than that.
  void Copy(const std::string& name, const std::string& source,
            std::optional<int64_t> bytes = std::nullopt);

  // For another process, which writes into it with WriteForOther.
  const std::string& staging() const { return staging_; }
  // Waits for a file that another process writes there, and takes it in. Throws STORAGE with what
  // that failed of, when the file does not grow for 10 minutes, or once `given_up` (which another
  // thread may set) is true.
  void Await(const std::string& name, const std::atomic<bool>& given_up);

  // Adds manifest.json:
  //   {"version": 1, "files": {"config.json": {"bytes": 700, "sha256": "<hex>"}, ...}}
  SavedFolder Commit();

 private:
  void RemoveLeftovers() const;
  void Publish();

  const std::string dir_;
  const bool overwrite_;
  const int64_t bytes_needed_;
  std::string staging_;  // "" once committed
  std::map<std::string, FileDigest> files_;
};

// Writes one file of a folder that another process saves, which learns how it ends
// (OutputFolder::staging, Await). Throws what `write` throws.
void WriteForOther(const std::string& staging, const std::string& name,
                   const std::function<void(FileWriter&)>& write);

// What VerifyManifest throws for a folder that was changed after it was written.
class DamagedFolder : public TrainerError {
 public:
  using TrainerError::TrainerError;
};

// Recomputes the digests of a folder that OutputFolder wrote and compares them
// with its manifest.json. Throws DamagedFolder (STORAGE) naming the file that
// differs, is missing or is not listed, and StorageError for one that cannot be read. Returns the
// manifest's digest.
std::string VerifyManifest(const std::string& dir);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_OUTPUT_FOLDER_H_
