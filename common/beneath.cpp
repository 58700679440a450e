#include "common/beneath.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <list>
#include <system_error>
#include <utility>
#include <vector>

#include "common/unique_fd.h"

namespace liger {
namespace {

namespace fs = std::filesystem;

// As many as Linux follows in one path.
constexpr int kMaxLinks = 40;

int Fail(int error) {
  errno = error;
  return -1;
}

bool Refuse(int error) {
  errno = error;
  return false;
}

// One look-up. Nothing is opened by a name of more than one part, and ".." goes
// back to a folder that the walk came through.
class Walk {
 public:
  explicit Walk(int root) : root_(root) {}

  int Open(const fs::path& path, int flags) {
    if (path.is_absolute()) return Fail(EXDEV);
    Prepend(path);
    while (!rest_.empty()) {
      const std::string part = std::move(rest_.front());
      rest_.pop_front();
      if (part.empty() || part == ".") continue;
      if (part == "..") {
        if (!Up()) return -1;
        continue;
      }
      UniqueFd fd(openat(Here(), part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      struct stat status;
      if (!fd.valid() || fstat(fd.get(), &status) != 0) return -1;
      if (S_ISLNK(status.st_mode)) {
        if (rest_.empty() && (flags & O_NOFOLLOW) != 0) return Fail(ELOOP);
        if (!Follow(fd.get())) return -1;
      } else if (S_ISDIR(status.st_mode)) {
        folders_.push_back(std::move(fd));
      } else {
        return rest_.empty() ? OpenFile(part, std::move(fd), flags) : Fail(ENOTDIR);
      }
    }
    return openat(Here(), ".", flags | O_CLOEXEC);
  }

 private:
  int Here() const { return folders_.empty() ? root_ : folders_.back().get(); }

  void Prepend(const fs::path& path) {
    const std::vector<std::string> parts(path.begin(), path.end());
    rest_.insert(rest_.begin(), parts.begin(), parts.end());
  }

  bool Up() {
    if (!folders_.empty()) {
      folders_.pop_back();
      return true;
    }
    // Out of the root: it may lead into it again.
    fs::path path = fs::path(PathOfFd(root_)).parent_path();
    for (const std::string& part : std::exchange(rest_, {})) path /= part;
    return Enter(path);
  }

  bool Follow(int link) {
    char target[PATH_MAX];
    const ssize_t size = readlinkat(link, "", target, sizeof(target));
    if (size < 0) return false;
    const fs::path path(std::string(target, static_cast<size_t>(size)));
    if (path.is_absolute()) return Enter(path);
    if (++links_ > kMaxLinks) return Refuse(ELOOP);
    Prepend(path);
    return true;
  }

  // Goes on from the root to an absolute path, if that leads to below it. Whatever
  // it says, and however it changes, only names below the root are opened.
  bool Enter(const fs::path& path) {
    if (++links_ > kMaxLinks) return Refuse(ELOOP);
    const std::string root = PathOfFd(root_);
    std::error_code error;
    const fs::path real = fs::weakly_canonical(path, error);
    const fs::path relative = error ? fs::path() : real.lexically_relative(root);
    if (root.empty() || relative.empty() || *relative.begin() == "..") return Refuse(EXDEV);
    folders_.clear();
    Prepend(relative);
    return true;
  }

  int OpenFile(const std::string& name, UniqueFd fd, int flags) {
    if ((flags & O_DIRECTORY) != 0) return Fail(ENOTDIR);
    if ((flags & O_PATH) != 0) return fd.release();
    return openat(Here(), name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC);
  }

  const int root_;
  std::vector<UniqueFd> folders_;  // from the root down to where the walk is
  std::list<std::string> rest_;    // of the path
  int links_ = 0;
};

}  // namespace

int OpenBeneath(int folder_fd, const std::string& path, int flags) {
  return Walk(folder_fd).Open(path, flags);
}

bool LeadsOut(int error) { return error == EXDEV || error == ELOOP; }

std::string PathOfFd(int fd) {
  std::error_code error;
  return fs::read_symlink("/proc/self/fd/" + std::to_string(fd), error).string();
}

}  // namespace liger
