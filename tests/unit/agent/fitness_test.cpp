#include "worker/agent/fitness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

namespace liger::agent {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(FitnessTest, ADataFolderThatTakesFilesIsWell) {
  std::string folder = (std::filesystem::temp_directory_path() / "fitness-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  EXPECT_EQ(DataFolderFault(folder), "");
  EXPECT_TRUE(std::filesystem::is_empty(folder)) << "nothing is left of the look";
  std::filesystem::remove_all(folder);
  EXPECT_THAT(DataFolderFault(folder), AllOf(HasSubstr(folder), HasSubstr("takes no file")));
}

TEST(FitnessTest, AnInterfaceThatTheHostDoesNotHaveIsNamed) {
  EXPECT_EQ(InterfaceFault(""), "");
  EXPECT_EQ(InterfaceFault("lo"), "");
  EXPECT_EQ(InterfaceFault("^docker"), "") << "NCCL's own way to say it";
  EXPECT_THAT(InterfaceFault("lo,none0"),
              AllOf(HasSubstr("--socket-interface none0"), HasSubstr("it has"), HasSubstr("lo")));
}

}  // namespace
}  // namespace liger::agent
