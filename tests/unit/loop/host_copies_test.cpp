#include "worker/trainer/loop/host_copies.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

namespace liger::trainer {
namespace {

using testing::HasSubstr;

class HostCopiesTest : public testing::Test {
 protected:
  ~HostCopiesTest() override { unsetenv("LIGER_CHECKPOINT_MEMORY"); }

  // Copies of the tensors.
  std::vector<at::Tensor> Taken(std::vector<at::Tensor> tensors) {
    std::vector<at::Tensor*> places;
    for (at::Tensor& tensor : tensors) places.push_back(&tensor);
    std::string why;
    EXPECT_TRUE(copies_.Take(places, &why)) << why;
    copies_.Await();
    return tensors;
  }

  HostCopies copies_{at::kCPU, 1};
};

TEST_F(HostCopiesTest, TheyStayAsTheTensorsWere) {
  const at::Tensor fp32 = at::arange(60, at::kFloat).view({3, 4, 5});
  const std::vector<at::Tensor> tensors = {fp32,
                                           fp32.to(at::kBFloat16),
                                           at::arange(7, at::kByte),
                                           fp32.transpose(0, 2),
                                           fp32[1],
                                           at::scalar_tensor(3, at::kLong),
                                           at::empty({0, 5}, at::kFloat),
                                           at::randn({1000, 1000})};
  std::vector<at::Tensor> before;
  for (const at::Tensor& tensor : tensors) before.push_back(tensor.clone());
  const std::vector<at::Tensor> copies = Taken(tensors);
  copies_.BeforeChange();
  for (at::Tensor tensor : tensors) tensor.fill_(1);
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(at::equal(copies[i], before[i])) << i;
    EXPECT_EQ(copies[i].scalar_type(), before[i].scalar_type()) << i;
    EXPECT_TRUE(copies[i].is_contiguous()) << i;
  }
  EXPECT_EQ(copies_.TakeHeldUpSeconds(), 0);
}

TEST_F(HostCopiesTest, OneForWhatIsGivenTwice) {
  const at::Tensor tied = at::randn({64, 64});
  const auto copies = Taken({tied, tied.detach(), tied.view({-1})});
  EXPECT_EQ(copies[0].const_data_ptr(), copies[1].const_data_ptr());
  EXPECT_NE(copies[0].const_data_ptr(), copies[2].const_data_ptr()) << "of another shape";
}

TEST_F(HostCopiesTest, TheMemoryIsUsedAgain) {
  const at::Tensor one = at::randn({64, 64}), two = at::randn({8});
  const auto first = Taken({one, two});
  const auto second = Taken({one, two});
  EXPECT_EQ(first[0].const_data_ptr(), second[0].const_data_ptr());
  EXPECT_EQ(first[1].const_data_ptr(), second[1].const_data_ptr());
  // The states came after the first time.
  const auto third = Taken({one, at::randn({300, 300}), two});
  EXPECT_EQ(first[0].const_data_ptr(), third[0].const_data_ptr());
}

TEST_F(HostCopiesTest, WithoutMemoryNothingIsCopied) {
  setenv("LIGER_CHECKPOINT_MEMORY", "1000", 1);
  at::Tensor small = at::randn({100}), large = at::randn({1000});
  const at::Tensor was = large;
  std::string why;
  EXPECT_FALSE(copies_.Take({&small, &large}, &why));
  EXPECT_THAT(why, HasSubstr("more than LIGER_CHECKPOINT_MEMORY allows"));
  EXPECT_TRUE(large.is_same(was));
  EXPECT_TRUE(copies_.Take({&small}, &why)) << why;

  setenv("LIGER_CHECKPOINT_MEMORY", "100000000000000000", 1);
  at::Tensor huge = at::empty({1}).expand({int64_t{1} << 50});
  EXPECT_FALSE(copies_.Take({&huge}, &why));
  EXPECT_THAT(why, HasSubstr("of the host's memory, of which"));
}

}  // namespace
}  // namespace liger::trainer
