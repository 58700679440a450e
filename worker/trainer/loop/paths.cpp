#include "worker/trainer/loop/paths.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_join.h"
#include "common/beneath.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

// The file that a descriptor stands for, by its real name.
std::string PathOf(int fd) {
  std::error_code error;
  return fs::read_symlink("/proc/self/fd/" + std::to_string(fd), error).string();
}

// What a path comes to below one root.
struct LookUp {
  std::string real;  // empty: not there
  bool outside = false;
};

// As the agent looks (worker/agent/roots.h), so that both accept the same.
LookUp LookBelow(const std::string& root, const fs::path& path) {
  const int root_fd = open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root_fd < 0) return {};
  const absl::Cleanup close_root = [root_fd] { close(root_fd); };
  const fs::path normal = path.lexically_normal();
  const fs::path relative =
      path.is_absolute() ? normal.lexically_relative(PathOf(root_fd)) : normal;
  if (relative.empty() || *relative.begin() == "..") return {.outside = true};
  const int fd = OpenBeneath(root_fd, relative, O_PATH);
  if (fd < 0) return {.outside = LeadsOut(errno)};
  const absl::Cleanup close_fd = [fd] { close(fd); };
  return {.real = PathOf(fd)};
}

TrainerError NotFound(const std::string& path, const std::vector<std::string>& roots,
                      const std::string& field) {
  const std::string where = roots.empty() ? "" : " below " + absl::StrJoin(roots, ", ");
  return ConfigError(field + ": '" + path + "' does not exist" + where,
                     "check the path as this host sees it")
      .Field(field)
      .File(path);
}

}  // namespace

std::string PathOfUri(const std::string& uri, const std::string& field) {
  constexpr std::string_view kFile = "file://";
  if (uri.starts_with(kFile)) return uri.substr(kFile.size());
  if (const size_t colon = uri.find("://"); colon != std::string::npos) {
    throw ConfigError(field + ": '" + uri.substr(0, colon) + "' URIs are not available yet",
                      "use a path or a file:// URI")
        .Field(field);
  }
  return uri;
}

std::string ResolveInput(const std::string& uri, const std::string& name,
                         const std::vector<std::string>& roots, const std::string& field) {
  const std::string path = PathOfUri(uri.empty() ? name : uri, field);
  if (path.empty()) throw ConfigError(field + ": is not set", "name a path").Field(field);
  if (roots.empty()) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    if (error) throw NotFound(path, roots, field);
    return real.string();
  }
  size_t outside = 0;
  for (const std::string& root : roots) {
    const LookUp found = LookBelow(root, path);
    if (!found.real.empty()) return found.real;
    if (found.outside) ++outside;
  }
  // An absolute path is outside of all roots but its own anyway.
  const bool missing = fs::path(path).is_absolute() ? outside < roots.size() : outside == 0;
  if (missing) throw NotFound(path, roots, field);
  throw ConfigError(field + ": '" + path +
                        "' lies outside of the folders that this worker may read (" +
                        absl::StrJoin(roots, ", ") + ")",
                    "move it below one of them, or ask the operator to add its folder")
      .Field(field)
      .File(path);
}

}  // namespace liger::trainer
