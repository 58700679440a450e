#include "worker/agent/trainer_code.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/file.h"
#include "common/file_state.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

// A script takes the trainer's place, and leaves a mark each time that it is asked.
class TrainerCodeTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "code-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    Write("libtorch.so", "1");
    Says("echo 'ld.so: a warning' >&2\necho $0\necho $(dirname $0)/libtorch.so\necho end");
  }
  void TearDown() override { fs::remove_all(dir_); }
  void Write(const std::string& name, const std::string& content) {
    absl::SleepFor(absl::Milliseconds(20));  // a tick of the file system's clock
    std::ofstream(dir_ + "/" + name) << content;
  }
  void Says(const std::string& body) {
    Write("trainer", absl::StrCat("#!/bin/sh\n[ \"$1\" = --list-code ] || exit 3\necho >> ", dir_,
                                  "/asked\n", body, "\n"));
    chmod(program().c_str(), 0755);
  }
  std::string program() const { return dir_ + "/trainer"; }
  size_t Asked() const { return ReadFile(dir_ + "/asked").value_or("").size(); }

  std::string dir_;
  Spawner spawner_;
};

TEST_F(TrainerCodeTest, ChangesWithEachFileThatTheTrainerNames) {
  TrainerCode code(&spawner_, program());
  const std::string digest = code.Digest();
  EXPECT_EQ(digest, FileStatesDigest({program(), dir_ + "/libtorch.so"}));
  EXPECT_EQ(code.Digest(), digest);
  EXPECT_EQ(Asked(), 1u) << "while nothing has changed";
  Write("libtorch.so", "2");
  const std::string upgraded = code.Digest();
  EXPECT_NE(upgraded, digest);
  EXPECT_EQ(Asked(), 2u) << "it may load others now";
  fs::copy_file(program(), dir_ + "/new");
  fs::rename(dir_ + "/new", program());
  EXPECT_NE(code.Digest(), upgraded);
}

TEST_F(TrainerCodeTest, NoneFromATrainerThatDoesNotAnswer) {
  Says("exit 3");
  EXPECT_EQ(TrainerCode(&spawner_, program()).Digest(), "");
  Says("echo $0");
  EXPECT_EQ(TrainerCode(&spawner_, program()).Digest(), "") << "half a list";
  Says("echo $0; echo end; exec sleep 60");
  TrainerCode hangs(&spawner_, program(), absl::Milliseconds(300));
  const size_t asked = Asked();
  EXPECT_EQ(hangs.Digest(), "");
  EXPECT_EQ(hangs.Digest(), "");
  EXPECT_EQ(Asked(), asked + 1) << "not again at once";
  EXPECT_EQ(TrainerCode(&spawner_, dir_ + "/none").Digest(), "");
}

TEST_F(TrainerCodeTest, TellsWhyNoTrainerStarts) {
  TrainerCode code(&spawner_, program());
  code.Digest();
  EXPECT_EQ(code.fault(), "");
  const auto fault = [this](const std::string& path) {
    TrainerCode other(&spawner_, path);
    EXPECT_EQ(other.Digest(), "");
    return other.fault();
  };
  EXPECT_THAT(fault(dir_ + "/none"), testing::HasSubstr("its trainer does not start: "));
  // Of an older release: it starts, but does not know what it is asked.
  std::ofstream(program()) << "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nexit 2\n";
  EXPECT_EQ(fault(program()), "");
  std::ofstream(program()) << "#!/bin/sh\necho 'a warning'\necho 'no libtorch in /x' >&2\nexit 1\n";
  EXPECT_EQ(fault(program()), "its trainer does not start: no libtorch in /x");
}

}  // namespace
}  // namespace liger::agent
