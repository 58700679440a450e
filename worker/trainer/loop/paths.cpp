#include "worker/trainer/loop/paths.h"

#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/str_join.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> RealPath(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::canonical(path, error);
  if (error) return std::nullopt;
  return real;
}

bool IsBelow(const fs::path& path, const fs::path& root) {
  const fs::path relative = path.lexically_relative(root);
  return !relative.empty() && *relative.begin() != "..";
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
  std::optional<fs::path> real;
  if (fs::path(path).is_absolute() || roots.empty()) {
    real = RealPath(path);
  } else {
    for (const std::string& root : roots) {
      if ((real = RealPath(fs::path(root) / path))) break;
    }
  }
  if (!real) throw NotFound(path, roots, field);
  if (roots.empty()) return real->string();
  for (const std::string& root : roots) {
    const std::optional<fs::path> real_root = RealPath(root);
    if (real_root && IsBelow(*real, *real_root)) return real->string();
  }
  throw ConfigError(field + ": '" + path +
                        "' lies outside of the folders that this worker may read (" +
                        absl::StrJoin(roots, ", ") + ")",
                    "move it below one of them, or ask the operator to add its folder")
      .Field(field)
      .File(path);
}

}  // namespace liger::trainer
