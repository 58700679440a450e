#include "worker/trainer/checkpoint/output_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "common/file.h"
#include "worker/trainer/error.h"
#include "worker/trainer/json_file.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kStagingMark[] = ".saving-";
// What WriteForOther has to say of a file.
constexpr char kWordSuffix[] = ".done";
constexpr std::chrono::minutes kLongestSilence{10};

fs::path Normal(const std::string& dir) {
  fs::path path = fs::absolute(dir).lexically_normal();
  return path.has_filename() ? path : path.parent_path();  // "out/" is "out"
}

// ".NAME.saving-"; a process's own number follows.
std::string StagingPrefix(const fs::path& dir) {
  return "." + dir.filename().string() + kStagingMark;
}

std::string StagingPath(const fs::path& dir) {
  static std::atomic<int> counter{0};
  return dir.parent_path() /
         (StagingPrefix(dir) + std::to_string(getpid()) + "-" + std::to_string(counter++));
}

void CheckReplaceable(const fs::path& dir, bool overwrite) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(dir, error))) return;
  if (!overwrite) {
    throw ConfigError(dir.string() + " exists already",
                      "Choose another output.uri, or set output.overwrite: true to replace it.")
        .File(dir)
        .Field("output.uri");
  }
  const bool ours = fs::is_directory(dir, error) &&
                    (fs::is_empty(dir, error) || fs::exists(dir / kManifestName, error));
  if (!ours) {
    throw ConfigError(dir.string() + " is no folder that a job has written, so it is not replaced",
                      "Choose another output.uri, or remove it yourself.")
        .File(dir)
        .Field("output.uri");
  }
}

// Reads a file piece by piece. Returns 0 or errno.
template <typename Sink>
int ForEachChunk(const std::string& path, Sink sink) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  std::vector<char> buffer(size_t{1} << 20);
  ssize_t got = 0;
  int error = 0;
  while ((got = read(fd, buffer.data(), buffer.size())) != 0) {
    Tick();
    if (got > 0) {
      sink(std::string_view(buffer.data(), got));
    } else if (errno != EINTR) {
      error = errno;
      break;
    }
  }
  close(fd);
  return error;
}

FileDigest DigestOf(const std::string& path) {
  FileDigest digest;
  Sha256 sha256;
  const int error = ForEachChunk(path, [&](std::string_view bytes) {
    sha256.Update(bytes);
    digest.bytes += static_cast<int64_t>(bytes.size());
  });
  if (error != 0) throw StorageError("cannot read", path, error, 0);
  digest.sha256 = sha256.Hex();
  return digest;
}

std::string ManifestText(const std::map<std::string, FileDigest>& files) {
  json manifest = {{"version", 1}, {"files", json::object()}};
  for (const auto& [name, digest] : files) {
    manifest["files"][name] = {{"bytes", digest.bytes}, {"sha256", digest.sha256}};
  }
  return manifest.dump(2) + "\n";
}

}  // namespace

OutputFolder::OutputFolder(const std::string& dir, bool overwrite, int64_t bytes_needed)
    : dir_(Normal(dir)), overwrite_(overwrite), bytes_needed_(bytes_needed) {
  CheckReplaceable(dir_, overwrite_);
  const fs::path parent = fs::path(dir_).parent_path();
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) throw StorageError("cannot create", parent, error.value(), bytes_needed_);
  RemoveLeftovers();
  RequireFreeBytes(dir_, bytes_needed_);
  staging_ = StagingPath(dir_);
  fs::create_directory(staging_, error);
  if (error) {
    throw StorageError("cannot create", std::exchange(staging_, ""), error.value(), bytes_needed_);
  }
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!staging_.empty()) fs::remove_all(staging_, ignored);
}

void OutputFolder::RemoveLeftovers() const {
  const fs::path dir(dir_);
  const std::string prefix = StagingPrefix(dir);
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir.parent_path(), ignored)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(prefix)) continue;
    const pid_t pid = std::atoi(name.c_str() + prefix.size());
    if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), ignored);
  }
}

std::unique_ptr<FileWriter> OutputFolder::Create(const std::string& name) {
  const fs::path path = fs::path(staging_) / name;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) throw StorageError("cannot create", path.parent_path(), error.value(), bytes_needed_);
  return std::make_unique<FileWriter>(path, bytes_needed_);
}

void OutputFolder::Finish(const std::string& name, FileWriter* file) {
  files_[name] = file->Close();
}

void OutputFolder::Write(const std::string& name, std::string_view content) {
  const auto file = Create(name);
  file->Write(content);
  Finish(name, file.get());
}

void OutputFolder::Copy(const std::string& name, const std::string& source,
                        std::optional<int64_t> bytes) {
  const auto file = Create(name);
  auto left = static_cast<size_t>(bytes.value_or(std::numeric_limits<int64_t>::max()));
  const int error = ForEachChunk(source, [&](std::string_view chunk) {
    chunk = chunk.substr(0, left);
    left -= chunk.size();
    file->Write(chunk);
  });
  if (error != 0) throw StorageError("cannot read", source, error, 0);
  Finish(name, file.get());
}

void OutputFolder::Await(const std::string& name, const std::atomic<bool>& given_up) {
  const fs::path path = fs::path(staging_) / name, word = path.string() + kWordSuffix;
  auto changed = std::chrono::steady_clock::now();
  std::error_code error;
  for (uintmax_t size = 0; !fs::exists(word, error);) {
    Tick();  // the other one waits for a disk, or says so
    if (given_up.load()) throw StorageError("nobody waits any more for", path, ECANCELED, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const uintmax_t now = fs::file_size(path, error);
    if (!error && now != size) {
      size = now;
      changed = std::chrono::steady_clock::now();
    }
    if (std::chrono::steady_clock::now() - changed > kLongestSilence) {
      throw StorageError("no more comes of", path, ETIMEDOUT, bytes_needed_);
    }
  }
  const json said = ReadJsonObject(word);
  fs::remove(word, error);
  if (said.contains("error")) {
    throw TrainerError(liger::v1::FAILURE_CLASS_STORAGE, said["error"].get<std::string>(),
                       said.value("action", ""))
        .File(path);
  }
  files_[name] = {said.at("bytes").get<int64_t>(), said.at("sha256").get<std::string>()};
}

void WriteForOther(const std::string& staging, const std::string& name,
                   const std::function<void(FileWriter&)>& write) {
  const std::string path = fs::path(staging) / name;
  const auto say = [&](const json& word) {
    std::error_code ignored;
    if (word.contains("error")) fs::remove(path, ignored);  // a full disk has room for the word
    const absl::Status status = WriteFileAtomically(path + kWordSuffix, word.dump());
    if (!status.ok()) {
      throw TrainerError(liger::v1::FAILURE_CLASS_STORAGE, std::string(status.message()))
          .File(path);
    }
  };
  try {
    FileWriter file(path, 0);
    write(file);
    const FileDigest digest = file.Close();
    say({{"bytes", digest.bytes}, {"sha256", digest.sha256}});
  } catch (const TrainerError& error) {
    say({{"error", error.what()}, {"action", error.failure().action()}});
    throw;
  } catch (const std::exception& error) {
    say({{"error", error.what()}});
    throw;
  }
}

SavedFolder OutputFolder::Commit() {
  SavedFolder saved{.dir = dir_};
  for (const auto& [name, digest] : files_) saved.bytes += digest.bytes;
  const auto manifest = Create(kManifestName);
  manifest->Write(ManifestText(files_));
  saved.manifest_digest = "sha256:" + manifest->Close().sha256;
  std::set<fs::path> folders = {fs::path(staging_)};
  for (const auto& [name, digest] : files_) {
    folders.insert((fs::path(staging_) / name).parent_path());
  }
  for (const fs::path& folder : folders) SyncFolder(folder);
  Publish();
  SyncFolder(fs::path(dir_).parent_path());
  return saved;
}

void OutputFolder::Publish() {
  // What stood at dir_ may have changed since the constructor looked.
  CheckReplaceable(dir_, overwrite_);
  if (renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, dir_.c_str(), RENAME_NOREPLACE) == 0) {
    staging_.clear();
    return;
  }
  if (errno == EEXIST && overwrite_ &&
      renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, dir_.c_str(), RENAME_EXCHANGE) == 0) {
    return;  // staging_ is the old folder now, and the destructor removes it
  }
  // File systems without these two flags (NFS): an old folder steps aside.
  std::error_code error;
  const std::string aside = StagingPath(dir_);
  if (overwrite_ && fs::exists(dir_)) fs::rename(dir_, aside, error);
  if (!error) fs::rename(staging_, dir_, error);
  if (error) throw StorageError("cannot rename to", dir_, error.value(), bytes_needed_);
  staging_.clear();
  fs::remove_all(aside, error);
}

std::string VerifyManifest(const std::string& dir) {
  const std::string manifest_path = fs::path(dir) / kManifestName;
  const auto differs = [&](const std::string& name, const std::string& what) {
    DamagedFolder error(
        liger::v1::FAILURE_CLASS_STORAGE, (fs::path(dir) / name).string() + " " + what,
        "The folder was changed or damaged after it was written; use another copy.");
    error.File(fs::path(dir) / name);
    return error;
  };
  json files;
  if (!fs::exists(manifest_path)) throw differs(kManifestName, "is missing");
  try {
    files = json::parse(ReadTextFile(manifest_path)).at("files");
  } catch (const json::exception& error) {
    throw differs(kManifestName, std::string("is no manifest: ") + error.what());
  }
  for (const auto& [name, entry] : files.items()) {
    if (!fs::exists(fs::path(dir) / name)) throw differs(name, "is missing");
    const FileDigest digest = DigestOf(fs::path(dir) / name);
    if (digest.bytes != entry.value("bytes", int64_t{-1}) ||
        digest.sha256 != entry.value("sha256", "")) {
      throw differs(name, "differs from its digest in manifest.json");
    }
  }
  for (const auto& entry : fs::recursive_directory_iterator(dir)) {
    const std::string name = fs::relative(entry.path(), dir);
    if (entry.is_regular_file() && name != kManifestName && !files.contains(name)) {
      throw differs(name, "is not listed in manifest.json");
    }
  }
  return "sha256:" + DigestOf(manifest_path).sha256;
}

}  // namespace liger::trainer
