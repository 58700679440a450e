#include "common/beneath.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>

#include "common/unique_fd.h"

namespace liger {
namespace {

namespace fs = std::filesystem;

// root/{model/weights, link...} and outside/secret.
class BeneathTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "beneath-XXXXXX").string();
    dir_ = fs::canonical(mkdtemp(pattern.data()));
    fs::create_directories(dir_ / "root/model/deep");
    fs::create_directories(dir_ / "outside");
    std::ofstream(dir_ / "root/model/weights") << "w";
    std::ofstream(dir_ / "outside/secret") << "s";
    root_ = UniqueFd(open((dir_ / "root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  void TearDown() override { fs::remove_all(dir_); }

  void Link(const fs::path& target, const std::string& name) {
    fs::create_symlink(target, dir_ / "root" / name);
  }
  // What `path` comes to, from the root's parent, or the errno's name.
  std::string Resolve(const std::string& path, int flags = O_PATH) {
    const UniqueFd fd(OpenBeneath(root_.get(), path, flags));
    if (!fd.valid()) return strerrorname_np(errno);
    return fs::path(PathOfFd(fd.get())).lexically_relative(dir_);
  }

  fs::path dir_;
  UniqueFd root_;
};

TEST_F(BeneathTest, FollowsLinksToPlacesBelow) {
  Link("model", "relative");
  Link(fs::path("..") / "root" / "model", "over_the_top");
  Link(dir_ / "root/model", "absolute");
  Link(dir_ / "root/absolute/deep", "chain");
  Link(dir_ / "root", "itself");
  // Another spelling of the root.
  fs::create_symlink(dir_ / "root", dir_ / "alias");
  Link(dir_ / "alias/model", "spelt_otherwise");
  for (const char* path : {"model", "relative", "over_the_top", "absolute", "itself/model",
                           "spelt_otherwise", "chain/..", "model/deep/.."}) {
    EXPECT_EQ(Resolve(path), "root/model") << path;
    EXPECT_EQ(Resolve(path, O_RDONLY | O_DIRECTORY), "root/model") << path;
  }
  EXPECT_EQ(Resolve("absolute/weights", O_RDONLY), "root/model/weights");
  EXPECT_EQ(Resolve("."), "root");
}

TEST_F(BeneathTest, RefusesWhatLeadsOut) {
  Link("../outside", "relative");
  Link(dir_ / "outside", "absolute");
  Link(dir_ / "outside/secret", "file");
  Link("relative/secret", "chain");
  Link("/", "all");
  Link("/nowhere/at/all", "dangling");
  // A folder whose name begins like the root's.
  fs::create_directories(dir_ / "root2");
  Link(dir_ / "root2", "sibling");
  for (const char* path : {"..", "../outside", "model/../../outside", "/etc", "relative/secret",
                           "absolute/secret", "file", "chain", "all", "dangling", "sibling"}) {
    EXPECT_EQ(Resolve(path), "EXDEV") << path;
    EXPECT_EQ(Resolve(path, O_RDONLY), "EXDEV") << path;
  }
}

TEST_F(BeneathTest, TellsWhatIsWrong) {
  Link("loop", "loop");
  Link("none", "dangling");
  Link(dir_ / "root/none", "dangling_absolute");
  EXPECT_EQ(Resolve("loop"), "ELOOP");
  EXPECT_EQ(Resolve("none"), "ENOENT");
  EXPECT_EQ(Resolve("dangling"), "ENOENT");
  EXPECT_EQ(Resolve("dangling_absolute"), "ENOENT");
  EXPECT_EQ(Resolve("model/weights/x"), "ENOTDIR");
  EXPECT_EQ(Resolve("model/weights", O_PATH | O_DIRECTORY), "ENOTDIR");
  Link("model", "link");
  EXPECT_EQ(Resolve("link", O_PATH | O_NOFOLLOW), "ELOOP");
}

// As old kernels and the seccomp profiles of some containers do.
TEST_F(BeneathTest, DoesWithoutOpenat2) {
  const pid_t pid = fork();
  if (pid == 0) {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program = {std::size(filter), filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(77);
    _exit(Resolve("model/weights", O_RDONLY) == "root/model/weights" ? 0 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "NOT TESTED: this kernel has no seccomp filters";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace liger
