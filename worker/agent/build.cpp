#include "worker/agent/build.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/file.h"
#include "common/version.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDigits = 12;

// In the build tree and in the installed one.
std::vector<fs::path> Programs(const fs::path& trainer) {
  std::vector<fs::path> files = {trainer};
  std::error_code error;
  const fs::path root = fs::canonical(trainer, error).parent_path().parent_path();
  const fs::path started = root / "libexec" / "liger" / "liger-trainer";
  if (fs::exists(started, error)) files.push_back(started);
  std::vector<fs::path> libraries;
  for (const auto& entry : fs::directory_iterator(root / "lib", error)) {
    if (absl::StartsWith(entry.path().filename().string(), "libliger")) {
      libraries.push_back(entry.path());
    }
  }
  std::sort(libraries.begin(), libraries.end());
  files.insert(files.end(), libraries.begin(), libraries.end());
  return files;
}

}  // namespace

std::string BuildOf(const std::string& trainer) {
  std::string digests;
  for (const fs::path& file : Programs(trainer)) {
    const absl::StatusOr<std::string> digest = Sha256File(file.string());
    if (!digest.ok()) return kVersion;
    absl::StrAppend(&digests, *digest, "\n");
  }
  const std::string digest = Sha256(digests);
  return absl::StrCat(kVersion, "+", absl::StripPrefix(digest, "sha256:").substr(0, kDigits));
}

}  // namespace liger::agent
