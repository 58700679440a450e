#include "common/output_place.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace liger {
namespace {

namespace fs = std::filesystem;

std::string Because(const fs::path& path, int error) {
  return absl::StrCat(path.string(), ": ", std::strerror(error));
}

// The longest name of what is not there yet, the last one with what is put around it.
int64_t LongestNewName(const fs::path& below) {
  int64_t longest = std::ssize(below.filename().native()) + kStagingBytes;
  for (const fs::path& name : below.parent_path()) {
    longest = std::max(longest, std::ssize(name.native()));
  }
  return longest;
}

}  // namespace

std::string WhyNotWritable(const std::string& path) {
  fs::path there = fs::path(path).parent_path();
  struct stat status;
  while (stat(there.c_str(), &status) != 0) {
    const bool climbs = errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG;
    if (!climbs || there == there.parent_path()) return Because(there, errno);
    there = there.parent_path();
  }
  if (!S_ISDIR(status.st_mode)) return Because(there, ENOTDIR);
  if (faccessat(AT_FDCWD, there.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
    return Because(there, errno);
  }
  const int64_t longest = pathconf(there.c_str(), _PC_NAME_MAX);  // -1: it does not say
  const int64_t needed = LongestNewName(fs::path(path).lexically_relative(there));
  if (longest < 0 || needed <= longest) return "";
  return absl::StrCat(there.string(), " takes names of ", longest, " bytes, and one of ", needed,
                      " is needed");
}

}  // namespace liger
