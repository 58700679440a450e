#include "worker/agent/publisher.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/file.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

// A folder below the output root, by its open parent.
struct Target {
  UniqueFd parent;
  std::string leaf;
  std::string path;  // for messages and for reading back

  int Exchange(const std::string& other, unsigned flags) const {
    return renameat2(parent.get(), other.c_str(), parent.get(), leaf.c_str(), flags);
  }
};

absl::Status Errno(const std::string& what) { return absl::ErrnoToStatus(errno, what); }

absl::StatusOr<Target> ResolveTarget(const std::string& uri, const Root& root) {
  absl::StatusOr<std::string> relative = root.Relative(uri);
  if (!relative.ok()) return relative.status();
  const fs::path path(*relative);
  if (path == ".") {
    return absl::InvalidArgumentError(
        absl::StrCat("output '", uri, "' is the output root itself: name a folder below it"));
  }
  absl::StatusOr<UniqueFd> parent = root.OpenOrMakeFolder(path.parent_path().string());
  if (!parent.ok()) return parent.status();
  return Target{*std::move(parent), path.filename().string(),
                absl::StrCat(root.path(), "/", *relative)};
}

bool Exists(const Target& target) {
  struct stat st;
  return fstatat(target.parent.get(), target.leaf.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

bool HasManifest(const std::string& dir, const std::string& digest) {
  absl::StatusOr<std::string> found = Sha256File(dir + "/manifest.json");
  return found.ok() && *found == digest;
}

bool IsReplaced(const Publication& publication, const std::string& dir) {
  return std::any_of(publication.replaces.begin(), publication.replaces.end(),
                     [&](const std::string& digest) { return HasManifest(dir, digest); });
}

absl::Status SyncTree(const std::string& dir) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    UniqueFd fd(open(it->path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid() || fsync(fd.get()) != 0) return Errno("cannot sync " + it->path().string());
  }
  if (error) return absl::InternalError(absl::StrCat("cannot list ", dir, ": ", error.message()));
  return SyncFolder(dir);
}

// Brings the source beside the target under `staging`.
absl::Status Stage(const Publication& publication, const Target& target,
                   const std::string& staging) {
  std::error_code error;
  const std::string path = (fs::path(target.path).parent_path() / staging).string();
  fs::remove_all(path, error);
  if (renameat(AT_FDCWD, publication.source_dir.c_str(), target.parent.get(), staging.c_str()) ==
      0) {
    return absl::OkStatus();
  }
  if (errno != EXDEV) return Errno("cannot move " + publication.source_dir + " to " + path);
  fs::copy(publication.source_dir, path, fs::copy_options::recursive, error);
  if (error) {
    const std::string message = error.message();
    const bool full = error == std::errc::no_space_on_device;
    const std::string text = absl::StrCat("cannot copy the result to ", path, ": ", message);
    return full ? absl::ResourceExhaustedError(text) : absl::InternalError(text);
  }
  return SyncTree(path);
}

// Renames `staging` to the target; what was there before ends up as `staging`.
absl::Status Expose(const Target& target, const std::string& staging, bool overwrite) {
  if (target.Exchange(staging, RENAME_NOREPLACE) == 0) return absl::OkStatus();
  if (errno == EEXIST && overwrite && target.Exchange(staging, RENAME_EXCHANGE) == 0) {
    return absl::OkStatus();
  }
  // A file system without renameat2's flags. Not atomic over an old folder.
  if (errno == EINVAL) {
    std::error_code error;
    if (overwrite) fs::remove_all(target.path, error);
    if (target.Exchange(staging, 0) == 0) return absl::OkStatus();
  }
  return Errno("cannot make the result visible at " + target.path);
}

// Named by content, so that a second try meets what the first one left.
std::string StagingName(const std::string& leaf, absl::string_view manifest_digest) {
  absl::ConsumePrefix(&manifest_digest, "sha256:");
  return absl::StrCat(".", leaf, ".", manifest_digest.substr(0, 16), ".part");
}

// Those of other contents: of attempts whose workers were lost while they copied.
void RemoveOthersStaged(const fs::path& folder, const std::string& leaf) {
  const std::string begin = absl::StrCat(".", leaf, "."), end = ".part";
  std::error_code error;
  std::vector<fs::path> others;
  for (fs::directory_iterator it(folder, error), last; !error && it != last; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool as_long = name.size() == StagingName(leaf, std::string(16, '0')).size();
    if (!as_long || !name.starts_with(begin) || !name.ends_with(end)) continue;
    const auto digits = name.substr(begin.size(), 16);
    if (std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) others.push_back(*it);
  }
  for (const fs::path& other : others) fs::remove_all(other, error);
}

// The opposite of Stage: a folder that was moved goes back, a copy goes.
void Unstage(const Publication& publication, const fs::path& staged) {
  std::error_code error;
  if (!fs::exists(publication.source_dir, error)) {
    fs::rename(staged, publication.source_dir, error);
    if (!error) return;
  }
  fs::remove_all(staged, error);
}

}  // namespace

absl::StatusOr<PublishResult> Publish(const Publication& publication, const Root& output_root,
                                      const std::function<bool()>& may_publish) {
  absl::StatusOr<Target> target = ResolveTarget(publication.output_uri, output_root);
  if (!target.ok()) return target.status();
  const std::string staging = StagingName(target->leaf, publication.manifest_digest);
  const fs::path staged = fs::path(target->path).parent_path() / staging;
  // Once the result is visible: what was there before it.
  const auto remove_staged = [&staged] {
    std::error_code error;
    fs::remove_all(staged, error);
  };
  bool overwrite = publication.overwrite;
  if (Exists(*target)) {
    if (HasManifest(target->path, publication.manifest_digest)) {
      remove_staged();
      return PublishResult::kVisible;
    }
    overwrite = overwrite || IsReplaced(publication, target->path);
    if (!overwrite) {
      Unstage(publication, staged);
      return absl::AlreadyExistsError(absl::StrCat(
          target->path, " exists already: choose another output.uri or set output.overwrite"));
    }
  }
  if (!may_publish()) return PublishResult::kLeaseOver;
  const bool staged_before =
      !fs::exists(publication.source_dir) && HasManifest(staged, publication.manifest_digest);
  absl::Cleanup unstage = [&] { Unstage(publication, staged); };
  if (!staged_before) {
    if (absl::Status s = Stage(publication, *target, staging); !s.ok()) return s;
  }
  if (!may_publish()) return PublishResult::kLeaseOver;
  if (absl::Status s = Expose(*target, staging, overwrite); !s.ok()) return s;
  std::move(unstage).Cancel();
  const bool synced = fsync(target->parent.get()) == 0;
  const absl::Status unsynced = Errno("cannot sync the folder of " + target->path);
  remove_staged();
  RemoveOthersStaged(staged.parent_path(), target->leaf);
  if (!synced) return unsynced;
  // From another file system it was copied: the next one needs its room.
  std::error_code ignored;
  fs::remove_all(publication.source_dir, ignored);
  return PublishResult::kVisible;
}

void ClearStaging(const Publication& publication, const Root& output_root) {
  absl::StatusOr<std::string> relative = output_root.Relative(publication.output_uri);
  if (!relative.ok()) return;
  const fs::path target(*relative);
  const fs::path staged =
      target.parent_path() / StagingName(target.filename().string(), publication.manifest_digest);
  if (!output_root.OpenBeneath(staged.string(), O_PATH | O_DIRECTORY | O_NOFOLLOW).ok()) return;
  Unstage(publication, output_root.path() / staged);
}

PublishThread::PublishThread() : thread_([this] { Loop(); }) {}

PublishThread::~PublishThread() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void PublishThread::Run(absl::AnyInvocable<void()> job) {
  absl::MutexLock lock(&mutex_);
  jobs_.push_back(std::move(job));
}

void PublishThread::Loop() {
  while (true) {
    absl::AnyInvocable<void()> job;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &PublishThread::Ready));
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace liger::agent
