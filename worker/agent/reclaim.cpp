#include "worker/agent/reclaim.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "common/file.h"

namespace liger::agent {
namespace {

// By descriptors all the way down, so that nothing swapped in meanwhile leads
// elsewhere.
absl::Status RemoveTree(int parent, const std::string& name) {
  if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return absl::ErrnoToStatus(errno, name);
  const int fd = openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, name);
  DIR* dir = fdopendir(fd);
  if (dir == nullptr) {
    close(fd);
    return absl::ErrnoToStatus(errno, name);
  }
  absl::Cleanup closer = [dir] { closedir(dir); };
  while (dirent* entry = readdir(dir)) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (absl::Status s = RemoveTree(fd, entry->d_name); !s.ok()) return s;
  }
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) return absl::ErrnoToStatus(errno, name);
  return absl::OkStatus();
}

}  // namespace

absl::Status RemoveBeneath(const Root& root, const std::string& uri) {
  absl::StatusOr<std::string> relative = root.Relative(uri);
  if (!relative.ok()) return relative.status();
  const std::filesystem::path path(*relative);
  if (path == ".") return absl::InvalidArgumentError("the root itself is not removed");
  const std::string parent_path = path.parent_path().empty() ? "." : path.parent_path().string();
  absl::StatusOr<UniqueFd> parent = root.OpenBeneath(parent_path, O_RDONLY | O_DIRECTORY);
  if (absl::IsNotFound(parent.status())) return absl::OkStatus();
  if (!parent.ok()) return parent.status();
  return RemoveTree(parent->get(), path.filename().string());
}

absl::Status RemoveOutput(const Root& root, const worker::v1::PublishedOutput& output) {
  absl::StatusOr<std::string> relative = root.Relative(output.uri());
  if (!relative.ok()) return relative.status();
  absl::StatusOr<UniqueFd> manifest = root.OpenBeneath(*relative + "/manifest.json", O_RDONLY);
  if (absl::IsNotFound(manifest.status())) return absl::OkStatus();
  if (!manifest.ok()) return manifest.status();
  absl::StatusOr<std::string> digest = Sha256File(absl::StrCat("/proc/self/fd/", manifest->get()));
  if (!digest.ok()) return digest.status();
  if (*digest != output.manifest_digest()) return absl::OkStatus();
  if (absl::Status s = RemoveBeneath(root, output.uri()); !s.ok()) return s;
  // The last checkpoint takes their folder along; one that holds more stays.
  const std::filesystem::path folder = std::filesystem::path(*relative).parent_path();
  if (folder.extension() == kCheckpointsSuffix) {
    const std::string above = folder.parent_path().empty() ? "." : folder.parent_path().string();
    absl::StatusOr<UniqueFd> parent = root.OpenBeneath(above, O_RDONLY | O_DIRECTORY);
    if (parent.ok()) unlinkat(parent->get(), folder.filename().c_str(), AT_REMOVEDIR);
  }
  return absl::OkStatus();
}

}  // namespace liger::agent
