#include "worker/agent/roots.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/beneath.h"
#include "common/file.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

absl::Status OpenError(int error, const std::string& root, const std::string& path) {
  if (LeadsOut(error)) {
    return absl::PermissionDeniedError(absl::StrCat(
        path, " leads out of ", root, ": use a path below it, and links to places below it only"));
  }
  return absl::ErrnoToStatus(error, absl::StrCat("cannot open ", root, "/", path));
}

}  // namespace

absl::StatusOr<Root> Root::Open(const std::string& path) {
  std::error_code error;
  const std::string absolute = fs::absolute(path).lexically_normal().string();
  if (absl::Status s = MakeFolders(absolute); !s.ok()) return s;
  // The resolved spelling, as file:// URIs are compared with it.
  const std::string real = fs::canonical(absolute, error).string();
  if (error) return absl::NotFoundError(absl::StrCat(absolute, ": ", error.message()));
  UniqueFd fd(open(real.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("open ", real));
  return Root(real, std::move(fd));
}

absl::StatusOr<std::string> Root::Relative(const std::string& uri) const {
  absl::string_view path = uri;
  if (!absl::ConsumePrefix(&path, "file://") && absl::StrContains(uri, "://")) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", uri, "' is not a file:// URI; other storage is not supported yet"));
  }
  if (path.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError("a path may not contain a NUL character");
  }
  const fs::path wanted = fs::path(std::string(path)).lexically_normal();
  const fs::path relative = wanted.is_absolute() ? wanted.lexically_relative(path_) : wanted;
  if (relative.empty() || *relative.begin() == "..") {
    return absl::PermissionDeniedError(absl::StrCat("'", uri, "' is not below ", path_));
  }
  // "a/" and "a" are the same place.
  return relative.has_filename() ? relative.string() : relative.parent_path().string();
}

absl::StatusOr<UniqueFd> Root::OpenBeneath(const std::string& relative, int flags) const {
  UniqueFd fd(liger::OpenBeneath(fd_.get(), relative, flags));
  if (!fd.valid()) return OpenError(errno, path_, relative);
  return fd;
}

absl::Status Root::Check(const std::string& uri) const {
  absl::StatusOr<std::string> relative = Relative(uri);
  if (!relative.ok()) return relative.status();
  return OpenBeneath(*relative, O_PATH).status();
}

absl::StatusOr<UniqueFd> Root::OpenOrMakeFolder(const std::string& relative) const {
  fs::path done = ".";
  for (const fs::path& part : fs::path(relative)) {
    absl::StatusOr<UniqueFd> parent = OpenBeneath(done.string(), O_PATH | O_DIRECTORY);
    if (!parent.ok()) return parent.status();
    if (mkdirat(parent->get(), part.c_str(), 0755) != 0 && errno != EEXIST) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", path_, "/",
                                                     (done / part).lexically_normal().string()));
    }
    done /= part;
  }
  return OpenBeneath(done.string(), O_RDONLY | O_DIRECTORY);
}

absl::Status CheckInputUri(const std::string& uri, const std::vector<const Root*>& roots,
                           const std::vector<const Root*>& allowed) {
  const bool absolute = absl::StartsWith(uri, "file://") || absl::StartsWith(uri, "/");
  std::vector<const Root*> places = roots;
  if (absolute) places.insert(places.end(), allowed.begin(), allowed.end());
  absl::Status refused;
  std::vector<std::string> outside;  // of which roots
  for (const Root* root : places) {
    const absl::Status checked = root->Check(uri);
    const bool bad = absl::IsPermissionDenied(checked) || absl::IsInvalidArgument(checked);
    if (!bad && absolute) return absl::OkStatus();
    // Where the trainer takes it from.
    if (checked.ok() && refused.ok()) return absl::OkStatus();
    if (!bad) continue;
    // What leads out of a root below which it lies says more.
    const bool elsewhere = absl::IsPermissionDenied(root->Relative(uri).status());
    if (elsewhere) outside.push_back(root->path());
    if (refused.ok() || !elsewhere) refused = checked;
  }
  if (outside.size() < places.size() || !absl::IsPermissionDenied(refused)) return refused;
  return absl::PermissionDeniedError(
      absl::StrCat("'", uri, "' is not below ", absl::StrJoin(outside, ", ")));
}

}  // namespace liger::agent
