#include "worker/agent/reclaim.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/beneath.h"
#include "common/checkpoints.h"
#include "common/file.h"
#include "worker/agent/log.h"
#include "worker/agent/publisher.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

using Files = std::vector<std::string>;

constexpr char kManifestName[] = "manifest.json";
constexpr int64_t kManifestBytes = 64 << 20;
constexpr size_t kNamedEntries = 5;

fs::path ParentOf(const fs::path& path) {
  return path.parent_path().empty() ? "." : path.parent_path();
}

// What the open folder's manifest names; nullopt when it has none with that digest.
absl::StatusOr<std::optional<Files>> FilesOf(int folder, const std::string& manifest_digest) {
  UniqueFd manifest(openat(folder, kManifestName, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!manifest.valid() && (errno == ENOENT || errno == ELOOP)) return std::nullopt;
  if (!manifest.valid()) return absl::ErrnoToStatus(errno, kManifestName);
  const absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat("/proc/self/fd/", manifest.get()), kManifestBytes);
  if (!text.ok()) return text.status();
  if (Sha256(*text) != manifest_digest) return std::nullopt;
  return ManifestFiles(*text);
}

// A file below the open folder; what leads out of it is not its own.
absl::Status RemoveFile(int folder, const fs::path& name) {
  UniqueFd parent(OpenBeneath(folder, ParentOf(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (!parent.valid() && errno == ENOENT) return absl::OkStatus();
  if (!parent.valid()) return absl::ErrnoToStatus(errno, name.string());
  if (unlinkat(parent.get(), name.filename().c_str(), 0) == 0 || errno == ENOENT) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, name.string());
}

// The folders that held `files`, the deepest first, where they are empty now.
void RemoveEmptyFolders(int folder, const Files& files) {
  std::set<fs::path, std::greater<>> folders;
  for (const std::string& file : files) {
    for (fs::path at = fs::path(file).parent_path(); !at.empty(); at = at.parent_path()) {
      folders.insert(at);
    }
  }
  for (const fs::path& at : folders) {
    UniqueFd parent(OpenBeneath(folder, ParentOf(at), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (parent.valid()) unlinkat(parent.get(), at.filename().c_str(), AT_REMOVEDIR);
  }
}

std::string EntriesOf(UniqueFd folder) {
  DIR* dir = fdopendir(folder.get());
  if (dir == nullptr) return "entries";
  folder.release();
  absl::Cleanup closer = [dir] { closedir(dir); };
  rewinddir(dir);
  std::set<std::string> names;
  while (dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.insert(name);
  }
  const size_t more = names.size() > kNamedEntries ? names.size() - kNamedEntries : 0;
  while (names.size() > kNamedEntries) names.erase(std::prev(names.end()));
  return absl::StrCat(absl::StrJoin(names, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

}  // namespace

absl::Status RemoveOutput(const Root& root, const worker::v1::PublishedOutput& output) {
  const absl::StatusOr<std::string> relative = root.Relative(output.uri());
  if (!relative.ok()) return relative.status();
  const fs::path path(*relative);
  if (path == ".") return absl::InvalidArgumentError("the root itself is not removed");
  absl::StatusOr<UniqueFd> above = root.OpenBeneath(ParentOf(path), O_RDONLY | O_DIRECTORY);
  if (absl::IsNotFound(above.status())) return absl::OkStatus();
  if (!above.ok()) return above.status();
  UniqueFd folder(openat(above->get(), path.filename().c_str(),
                         O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  // Something else stands there now, a link for instance.
  if (!folder.valid() && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
    return absl::OkStatus();
  }
  if (!folder.valid()) return absl::ErrnoToStatus(errno, *relative);
  const absl::StatusOr<std::optional<Files>> files =
      FilesOf(folder.get(), output.manifest_digest());
  if (!files.ok()) return files.status();
  if (!files->has_value()) return absl::OkStatus();
  for (const std::string& file : **files) {
    if (absl::Status s = RemoveFile(folder.get(), file); !s.ok()) return s;
  }
  RemoveEmptyFolders(folder.get(), **files);
  // Last, so that a removal that was broken off is recognised when it comes again.
  if (absl::Status s = RemoveFile(folder.get(), kManifestName); !s.ok()) return s;
  if (unlinkat(above->get(), path.filename().c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    if (errno != ENOTEMPTY && errno != EEXIST) return absl::ErrnoToStatus(errno, *relative);
    LogWarning("removed the output ", output.uri(), "; not of it, and left there: ",
               EntriesOf(std::move(folder)));
    return absl::OkStatus();
  }
  // The last checkpoint takes their folder along; one that holds more stays.
  const fs::path checkpoints = path.parent_path();
  if (checkpoints.extension() == kCheckpointsSuffix) {
    absl::StatusOr<UniqueFd> parent =
        root.OpenBeneath(ParentOf(checkpoints), O_RDONLY | O_DIRECTORY);
    if (parent.ok()) unlinkat(parent->get(), checkpoints.filename().c_str(), AT_REMOVEDIR);
  }
  return absl::OkStatus();
}

}  // namespace liger::agent
