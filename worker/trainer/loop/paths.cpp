#include "worker/trainer/loop/paths.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "common/beneath.h"
#include "common/unique_fd.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

// What a path comes to below one root.
struct LookUp {
  std::string real;  // empty: cannot be opened
  int error = 0;     // why not
};

// As the agent looks (worker/agent/roots.h), so that both accept the same.
LookUp LookBelow(const std::string& root, const fs::path& path) {
  const UniqueFd folder(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return {.error = errno};
  const fs::path normal = path.lexically_normal();
  const fs::path relative =
      path.is_absolute() ? normal.lexically_relative(PathOfFd(folder.get())) : normal;
  if (relative.empty() || *relative.begin() == "..") return {.error = EXDEV};
  const UniqueFd fd(OpenBeneath(folder.get(), relative, O_PATH));
  if (!fd.valid()) return {.error = errno};
  return {.real = PathOfFd(fd.get())};
}

bool Missing(int error) { return error == ENOENT || error == ENOTDIR; }

// "organisation/name" as the Hugging Face Hub has them; a path may look so, too.
bool LooksLikeHubId(const std::string& path) {
  const size_t slash = path.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < path.size() &&
         path.find('/', slash + 1) == std::string::npos && path[0] != '.' && path[0] != '~';
}

// By its ending; also one that is no data file's, such as .tsv.
bool LooksLikeFile(const std::string& path) {
  constexpr const char* kOtherEndings[] = {".gz", ".zst", ".tsv", ".txt", ".gguf", ".safetensors"};
  const std::string end = fs::path(path).extension();
  return NamesDataFile(path) ||
         std::ranges::any_of(kOtherEndings, [&](const char* other) { return end == other; });
}

// What to do about a file where a model's or an adapter's folder is meant.
std::string FolderOf(const std::string& path) {
  return path.ends_with(".gguf")
             ? "a model is a folder: make one of the file with `liger-trainer import-gguf " + path +
                   " --output FOLDER`, and name that"
             : "a model, or an adapter, is a folder: name the one that the file lies in";
}

// The agent gives the model root, the dataset root and the output root, one folder once
// (worker/agent/task_runner.cpp): of two, the first is the root of models and data sets.
const std::string& DatasetRoot(const std::vector<std::string>& roots) {
  return roots[roots.size() > 2 ? 1 : 0];
}

TrainerError NotFound(const std::string& path, const std::vector<std::string>& roots,
                      const std::string& field) {
  const std::string where = roots.empty() ? "" : " below " + absl::StrJoin(roots, ", ");
  std::string action = "check the path as this host sees it";
  if (LooksLikeFile(path) && !field.starts_with("dataset")) {
    action = FolderOf(path);
  } else if (LooksLikeFile(path) && !roots.empty()) {
    action = "put the file below one of the worker's folders, or correct its path";
  } else if (LooksLikeHubId(path) && !LooksLikeFile(path)) {
    const bool data = field.starts_with("dataset");
    const std::string root = roots.empty() ? "" : (data ? DatasetRoot(roots) : roots[0]) + "/";
    action += "; a name on the Hugging Face Hub is not fetched: get it with `hf download " + path +
              (data ? " --repo-type dataset" : "") + " --local-dir " + root + path + "`";
  }
  return ConfigError(field + ": '" + path + "' does not exist" + where, action)
      .Field(field)
      .File(path);
}

TrainerError CannotOpen(const std::string& path, const std::string& root, int error,
                        const std::string& field) {
  return ConfigError(field + ": '" + path + "' cannot be opened below " + root + ": " +
                         std::strerror(error),
                     "check that the worker may read it")
      .Field(field)
      .File(path);
}

// What a pattern matches below one root, or anywhere when it is empty.
std::vector<std::string> MatchBelow(const std::string& root, const fs::path& pattern) {
  fs::path folder = PatternFolder(pattern.string());
  const fs::path rest = folder == "." ? pattern : pattern.lexically_relative(folder);
  if (!root.empty()) {
    folder = LookBelow(root, folder).real;
    if (folder.empty()) return {};
  }
  return MatchDataFiles((folder / rest).string()).value_or(std::vector<std::string>());
}

// ResolveInput of a file of data, but a link as it is named where its target has no ending (the
// Hub's cache): the ending tells how the file is read.
std::string ResolveDataFile(const std::string& path, const std::vector<std::string>& roots,
                            const std::string& field) {
  const std::string real = ResolveInput(path, "", roots, field);
  if (!LooksLikeFile(path) || LooksLikeFile(real)) return real;
  for (const std::string& root : roots.empty() ? std::vector<std::string>{""} : roots) {
    std::error_code error;
    const fs::path link = fs::absolute(fs::path(root) / path, error);
    const fs::path named = fs::canonical(link.parent_path(), error) / link.filename();
    if (!error && fs::canonical(named, error) == real) return named.string();
  }
  return real;
}

std::vector<std::string> ResolvePattern(const std::string& pattern,
                                        const std::vector<std::string>& roots,
                                        const std::string& field) {
  std::vector<std::string> matches;
  for (const std::string& root : roots.empty() ? std::vector<std::string>{""} : roots) {
    matches = MatchBelow(root, pattern);
    if (!matches.empty()) break;
  }
  if (matches.empty()) {
    const std::string where = roots.empty() ? "" : " below " + absl::StrJoin(roots, ", ");
    throw ConfigError(field + ": '" + pattern + "' matches no file" + where,
                      "check the pattern against the files as this host sees them")
        .Field(field)
        .File(pattern);
  }
  // A link among them may lead elsewhere.
  for (std::string& match : matches) match = ResolveDataFile(match, roots, field);
  return matches;
}

}  // namespace

SplitFiles ResolveInputFiles(const std::string& uri, const std::string& name,
                             const std::vector<std::string>& roots, const std::string& field,
                             SplitUse use, const std::vector<std::string>& trained) {
  const std::string path = PathOfUri(uri.empty() ? name : uri, field);
  std::string found;
  try {
    found = ResolveDataFile(path, roots, field);
  } catch (const TrainerError&) {
    if (!IsPattern(path)) throw;
    return {.files = ResolvePattern(path, roots, field)};
  }
  absl::StatusOr<SplitFiles> files = MatchSplitFiles(found, use, trained);
  if (!files.ok()) {
    throw ConfigError(field + ": " + std::string(files.status().message()),
                      absl::IsNotFound(files.status()) ? "name a folder that has some, or the file"
                      : absl::IsDataLoss(files.status())
                          ? "copy the folder anew, or name the files that are there by a pattern"
                      : absl::IsAlreadyExists(files.status())
                          ? "name files that the job does not train on, or give "
                            "dataset.eval_fraction for a share of its rows"
                          : "name the files that are meant, by a pattern such as these, instead of "
                            "the folder")
        .Field(field)
        .File(found);
  }
  // Their names told the split; a link's target may have another.
  for (std::string& file : files->files) file = ResolveDataFile(file, roots, field);
  return *std::move(files);
}

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

std::optional<std::string> FindInput(const std::string& uri, const std::string& name,
                                     const std::vector<std::string>& roots,
                                     const std::string& field) {
  const std::string path = PathOfUri(uri.empty() ? name : uri, field);
  if (path.empty()) throw ConfigError(field + ": is not set", "name a path").Field(field);
  if (roots.empty()) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    return error ? std::nullopt : std::optional(real.string());
  }
  size_t outside = 0;
  for (const std::string& root : roots) {
    const LookUp found = LookBelow(root, path);
    if (!found.real.empty()) return found.real;
    if (LeadsOut(found.error)) {
      ++outside;
    } else if (!Missing(found.error)) {
      throw CannotOpen(path, root, found.error, field);
    }
  }
  // An absolute path is outside of all roots but its own anyway.
  const bool missing = fs::path(path).is_absolute() ? outside < roots.size() : outside == 0;
  if (missing) return std::nullopt;
  throw ConfigError(field + ": '" + path +
                        "' lies outside of the folders that this worker may read (" +
                        absl::StrJoin(roots, ", ") + ")",
                    "move it below one of them, or ask the operator to add its folder")
      .Field(field)
      .File(path);
}

std::string ResolveInput(const std::string& uri, const std::string& name,
                         const std::vector<std::string>& roots, const std::string& field) {
  const std::optional<std::string> found = FindInput(uri, name, roots, field);
  if (!found) throw NotFound(PathOfUri(uri.empty() ? name : uri, field), roots, field);
  return *found;
}

std::string ResolveFolder(const std::string& uri, const std::string& name,
                          const std::vector<std::string>& roots, const std::string& field) {
  const std::string path = ResolveInput(uri, name, roots, field);
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return path;
  throw ConfigError(field + ": '" + path + "' is a file", FolderOf(path)).Field(field).File(path);
}

}  // namespace liger::trainer
