#include "worker/agent/identity.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "common/ids.h"
#include "worker/agent/log.h"

namespace liger::agent {
namespace {

absl::StatusOr<std::string> ReadOrCreate(const std::string& path, const std::string& initial) {
  absl::StatusOr<std::string> content = ReadFile(path, 4096);
  if (absl::IsNotFound(content.status())) {
    if (absl::Status s = WriteFileAtomically(path, initial + "\n"); !s.ok()) return s;
    return initial;
  }
  if (!content.ok()) return content.status();
  return std::string(absl::StripAsciiWhitespace(*content));
}

absl::StatusOr<UniqueFd> LockFolder(const std::string& dir) {
  const std::string path = dir + "/lock";
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("data folder ", dir,
                     " is in use by another liger-worker: stop it, or give this one "
                     "its own --data-dir"));
  }
  return fd;
}

// Higher than at every start before, also when the clock was set back: the
// coordinator refuses an older incarnation.
int64_t NextIncarnation(const std::string& path) {
  int64_t last = 0;
  if (absl::StatusOr<std::string> content = ReadFile(path, 4096); content.ok()) {
    if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(*content), &last)) last = 0;
  }
  const int64_t next = std::max(last + 1, absl::ToUnixMicros(absl::Now()));
  absl::Status written = WriteFileAtomically(path, absl::StrCat(next, "\n"));
  // With a full disk the clock has to do: what ended must be reported.
  if (!written.ok()) LogWarning(written.ToString());
  return next;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Identity>> Identity::Load(const std::string& data_dir) {
  if (absl::Status s = MakeFolders(data_dir); !s.ok()) return s;
  auto identity = std::make_unique<Identity>();
  identity->data_dir_ = data_dir;
  absl::StatusOr<UniqueFd> lock = LockFolder(data_dir);
  if (!lock.ok()) return lock.status();
  identity->lock_ = *std::move(lock);
  RemoveTemporaries(data_dir);

  absl::StatusOr<std::string> id = ReadOrCreate(data_dir + "/worker_id", NewUuid());
  if (!id.ok()) return id.status();
  identity->worker_id_ = *id;
  absl::StatusOr<std::string> term = ReadOrCreate(data_dir + "/term", "0");
  if (!term.ok()) return term.status();
  if (id->empty() || !absl::SimpleAtoi(*term, &identity->term_seen_)) {
    return absl::DataLossError(absl::StrCat(
        data_dir, "/worker_id or /term is damaged: remove both to register as a new worker"));
  }
  absl::StatusOr<std::string> boot = ReadFile("/proc/sys/kernel/random/boot_id", 128);
  identity->boot_id_ = boot.ok() ? std::string(absl::StripAsciiWhitespace(*boot)) : "unknown";
  identity->incarnation_ = NextIncarnation(data_dir + "/incarnation");
  return identity;
}

absl::Status Identity::AcceptTerm(int64_t term) {
  if (term < term_seen_) {
    return absl::FailedPreconditionError(
        absl::StrCat("coordinator has term ", term, ", but this worker has served term ",
                     term_seen_, ": an outdated coordinator is answering"));
  }
  if (term == term_seen_) return absl::OkStatus();
  term_seen_ = term;
  // A full disk must not keep this worker from telling its exits.
  absl::Status written = WriteFileAtomically(data_dir_ + "/term", absl::StrCat(term, "\n"));
  if (!written.ok()) LogWarning("cannot store the coordinator's term: ", written.ToString());
  return absl::OkStatus();
}

}  // namespace liger::agent
