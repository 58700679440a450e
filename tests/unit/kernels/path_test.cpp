#include "kernels/path.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "kernels/linear/linear.h"
#include "kernels/reference/op_table.h"

namespace liger::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const OpShape kShape{.name = "small", .tokens = 4, .width = 6, .vocab = 5};

// What runs is what PathFor said would run, and what PathsRan then reports.
TEST(PathTest, ReportsWhatRan) {
  for (const OpCase& c : OpTable()) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const Tensors inputs = c.make(kShape, dtype);
      ClearPathsRan();
      EXPECT_THAT(PathsRan(), IsEmpty());
      c.ours(inputs);
      EXPECT_THAT(PathsRan(), ElementsAre(PathRan{c.op, PathFor(c.op, at::kCPU, dtype)}))
          << c.name << " " << dtype;
    }
  }
}

TEST(PathTest, BaselineReportsItself) {
  for (const OpCase& c : OpTable()) {
    ClearPathsRan();
    c.baseline(c.make(kShape, at::kFloat));
    EXPECT_THAT(PathsRan(), ElementsAre(PathRan{c.op, Path::kBaseline})) << c.name;
  }
}

TEST(PathTest, CudaTensorsGoToOurKernelsOrToAten) {
  // By the build and by the GPU, of which a test on a CPU knows nothing.
  EXPECT_THAT(PathFor("rope", at::kCUDA, at::kBFloat16), testing::AnyOf(Path::kCuda, Path::kAten));
  EXPECT_EQ(PathFor("rope", at::kCUDA, at::kDouble), Path::kAten);
  EXPECT_EQ(PathFor("linear", at::kCUDA, at::kFloat), Path::kAten);
  EXPECT_EQ(PathName(Path::kAten), "aten");
  EXPECT_THROW(PathFor("rop", at::kCPU, at::kFloat), c10::Error);
}

TEST(PathTest, TableCoversEveryOp) {
  std::set<std::string_view> ops;
  for (const OpCase& c : OpTable()) ops.insert(c.op);
  EXPECT_EQ(ops, std::set<std::string_view>(std::begin(kOpNames), std::end(kOpNames)));
}

// Meta kernels answer with the shapes and dtypes that the real ones give.
TEST(PathTest, MetaMatchesReal) {
  for (const OpCase& c : OpTable()) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const Tensors inputs = c.make(kShape, dtype);
      Tensors meta;
      for (const auto& t : inputs) meta.push_back(t.to(at::kMeta));
      const Tensors real = c.ours(inputs), fake = c.ours(meta);
      ASSERT_EQ(real.size(), fake.size());
      for (size_t i = 0; i < real.size(); ++i) {
        EXPECT_EQ(real[i].sizes(), fake[i].sizes()) << c.name << " output " << i;
        EXPECT_EQ(real[i].strides(), fake[i].strides()) << c.name << " output " << i;
        EXPECT_EQ(real[i].scalar_type(), fake[i].scalar_type()) << c.name << " output " << i;
      }
    }
  }
}

TEST(PathTest, GemmLibraryIsOneOfFour) {
  for (const auto kind : {GemmKind::kForward, GemmKind::kInputGrad, GemmKind::kWeightGrad}) {
    const std::string_view name = GemmLibraryName(CpuGemm(kind));
    EXPECT_TRUE(name == "mkl" || name == "onednn" || name == "amx_split" || name == "avx512")
        << name;
    EXPECT_EQ(CpuGemm(kind), CpuGemm(kind));
  }
}

}  // namespace
}  // namespace liger::kernels
