#include "common/output_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace liger {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class OutputPlaceTest : public testing::Test {
 protected:
  OutputPlaceTest() {
    char name[] = "/tmp/liger_output_place_test.XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~OutputPlaceTest() override {
    fs::permissions(folder_, fs::perms::owner_all);
    fs::remove_all(folder_);
  }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  std::string folder_;
};

TEST_F(OutputPlaceTest, NothingIsAgainstAFolderOfMissingParentsAndNothingIsMade) {
  EXPECT_EQ(WhyNotWritable(Path("out")), "");
  EXPECT_EQ(WhyNotWritable(Path("a/b/out")), "");
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(OutputPlaceTest, AFileIsNoParent) {
  std::ofstream(Path("file")) << "x";
  for (const char* below : {"file/out", "file/a/out"}) {
    EXPECT_EQ(WhyNotWritable(Path(below)), Path("file") + ": Not a directory");
  }
}

TEST_F(OutputPlaceTest, NamesLeaveRoomForWhatIsPutAroundThem) {
  const std::string longest(kLongestOutputName, 'n');
  EXPECT_EQ(WhyNotWritable(Path(longest)), "");
  for (const std::string& name : {longest + "n", std::string(300, 'n') + "/out"}) {
    EXPECT_THAT(WhyNotWritable(Path(name)),
                HasSubstr(folder_ + " takes names of 255 bytes, and one of "));
  }
}

TEST_F(OutputPlaceTest, AFolderOfOthersIsNot) {
  if (geteuid() == 0) GTEST_SKIP() << "NOT TESTED: root may write everywhere";
  fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_EQ(WhyNotWritable(Path("a/out")), folder_ + ": Permission denied");
}

TEST_F(OutputPlaceTest, AReadOnlyFileSystemIsNot) {
  const bool mounted = unshare(CLONE_NEWNS) == 0 &&
                       mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       mount("none", folder_.c_str(), "tmpfs", MS_RDONLY, "size=1m") == 0;
  if (!mounted) GTEST_SKIP() << "NOT TESTED: needs root to mount a file system";
  EXPECT_EQ(WhyNotWritable(Path("a/out")), folder_ + ": Read-only file system");
  EXPECT_EQ(umount(folder_.c_str()), 0);
}

}  // namespace
}  // namespace liger
