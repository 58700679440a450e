// liger-cli up where its worker can run nothing.
#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "tests/e2e/child_process.h"
#include "tests/paths.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

TEST(UpTest, SaysWhyNoJobRuns) {
  std::string dir = (fs::temp_directory_path() / "liger-up-XXXXXX").string();
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const absl::Cleanup remove = [&dir] { fs::remove_all(dir); };
  for (const char* name : {"liger-cli", "liger-coordinator", "liger-worker"}) {
    fs::copy_file(absl::StrCat(BinDir(), "/", name), absl::StrCat(dir, "/", name));
  }
  const std::string trainer = dir + "/liger-trainer", log = dir + "/log";
  ASSERT_TRUE(WriteFileAtomically(trainer, "#!/bin/sh\necho no libtorch here\nexit 1\n").ok());
  fs::permissions(trainer, fs::perms::owner_all);
  const std::string any = "127.0.0.1:0";
  ChildProcess up({dir + "/liger-cli", "up", "--data-dir", dir + "/data", "--listen", any,
                   "--worker-listen", any, "--metrics-listen", any, "--worker-metrics-listen", any},
                  log, {{"HOME", dir}});
  const auto text = [&log] { return ReadFile(log).value_or(""); };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!absl::StrContains(text(), "Ctrl-C") && up.Running() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(text(), AllOf(HasSubstr("warning: no job runs until this is mended: its trainer does "
                                      "not start: no libtorch here\n"),
                            HasSubstr("liger is up")));
  EXPECT_EQ(WEXITSTATUS(up.Terminate()), 0);
}

}  // namespace
}  // namespace liger::e2e
