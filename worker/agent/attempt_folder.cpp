#include "worker/agent/attempt_folder.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "worker/agent/log.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

// Ids come from the network and become part of a path.
bool IsFileName(const std::string& id) {
  return !id.empty() && id.size() <= 100 && id[0] != '.' &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

std::vector<fs::directory_entry> Children(const std::string& dir) {
  std::error_code error;
  std::vector<fs::directory_entry> children;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    children.push_back(*it);
  }
  return children;
}

}  // namespace

std::string TaskKey(const trainer::v1::Ref& ref) {
  return absl::StrCat(ref.job_uid(), "/", ref.epoch(), "/", ref.task_id());
}

absl::StatusOr<AttemptFolder> AttemptFolder::Create(const std::string& attempts_dir,
                                                    const trainer::v1::Ref& ref) {
  // A dry run's task is of no job.
  const std::string job = ref.job_uid().empty() ? "no-job" : ref.job_uid();
  if (!IsFileName(job) || !IsFileName(ref.task_id())) {
    return absl::InvalidArgumentError(
        absl::StrCat("ids of task ", TaskKey(ref), " must be letters, digits, '-', '_' and '.'"));
  }
  AttemptFolder folder(absl::StrCat(attempts_dir, "/", job, ".", ref.epoch(), ".", ref.task_id()));
  if (absl::Status s = MakeFolders(folder.work()); !s.ok()) return s;
  return folder;
}

std::string AttemptFolder::events(int rank) const { return absl::StrCat(path_, "/events.", rank); }
std::string AttemptFolder::log(int rank) const { return absl::StrCat(path_, "/log.", rank); }

absl::Status AttemptFolder::WriteRecord(const worker::v1::AttemptRecord& attempt) const {
  return WriteFileAtomically(record(), attempt.SerializeAsString());
}

absl::StatusOr<worker::v1::AttemptRecord> AttemptFolder::ReadRecord() const {
  absl::StatusOr<std::string> bytes = ReadFile(record(), 16 << 20);
  if (!bytes.ok()) return bytes.status();
  worker::v1::AttemptRecord attempt;
  if (!attempt.ParseFromString(*bytes)) {
    return absl::DataLossError(absl::StrCat(record(), " is damaged"));
  }
  return attempt;
}

AttemptArchive::AttemptArchive(std::string data_dir, int keep_count, absl::Duration keep_for)
    : attempts_dir_(data_dir + "/attempts"),
      failed_dir_(data_dir + "/failed"),
      keep_count_(keep_count),
      keep_for_(keep_for) {}

std::vector<AttemptFolder> AttemptArchive::Unfinished() const {
  std::vector<AttemptFolder> folders;
  for (const fs::directory_entry& child : Children(attempts_dir_)) {
    folders.emplace_back(child.path().string());
  }
  return folders;
}

void AttemptArchive::Remove(const AttemptFolder& folder) const {
  std::error_code error;
  fs::remove_all(folder.path(), error);
  if (error) LogWarning("cannot remove ", folder.path(), ": ", error.message());
}

void AttemptArchive::Keep(const AttemptFolder& folder) const {
  const auto is_log = [](const fs::directory_entry& file) {
    return file.path().filename().string().starts_with("log.");
  };
  // A task that was refused before a trainer ran would push out one that tells something.
  if (std::ranges::none_of(Children(folder.path()), is_log)) return Remove(folder);
  std::error_code error;
  fs::create_directories(failed_dir_, error);
  // Weights that were not published, gigabytes of them, explain no failure.
  for (const char* weights : {"/checkpoints", "/best"}) {
    fs::remove_all(folder.work() + weights, error);
  }
  const fs::path target = fs::path(failed_dir_) / fs::path(folder.path()).filename();
  fs::remove_all(target, error);
  fs::rename(folder.path(), target, error);
  if (error) {
    LogWarning("cannot keep ", folder.path(), ": ", error.message());
    Remove(folder);
  }
  Prune();
}

void AttemptArchive::Prune() const {
  std::vector<std::pair<fs::file_time_type, fs::path>> kept;
  std::error_code error;
  for (const fs::directory_entry& child : Children(failed_dir_)) {
    kept.emplace_back(child.last_write_time(error), child.path());
  }
  std::sort(kept.rbegin(), kept.rend());
  const auto oldest = fs::file_time_type::clock::now() - absl::ToChronoSeconds(keep_for_);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (static_cast<int>(i) < keep_count_ && kept[i].first >= oldest) continue;
    fs::remove_all(kept[i].second, error);
  }
}

}  // namespace liger::agent
