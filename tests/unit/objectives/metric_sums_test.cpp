#include "worker/trainer/objectives/metric_sums.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace liger::trainer {
namespace {

TEST(MetricSumsTest, MicroBatchesAndRanksCombineByWeight) {
  MetricSums a, b;
  a.Add("loss", at::scalar_tensor(6.0), 3);
  a.Add("accuracy", at::scalar_tensor(1.0), 1);
  b.Add("loss", at::scalar_tensor(10.0), 1);
  b.Add("accuracy", at::scalar_tensor(0.0), 3);
  MetricSums total;
  total.Add(a);
  total.Add(b);
  EXPECT_DOUBLE_EQ(total.Means().at("loss"), 4.0);
  EXPECT_DOUBLE_EQ(total.Means().at("accuracy"), 0.25);

  MetricSums reduced = a;
  reduced.Unpack(a.Pack() + b.Pack());  // what an all-reduce does
  EXPECT_EQ(reduced.Means(), total.Means());
}

TEST(MetricSumsTest, NothingCountedIsLeftOut) {
  MetricSums sums;
  sums.Add("empty", at::scalar_tensor(0.0), 0);
  EXPECT_TRUE(sums.Means().empty());
}

TEST(MetricSumsTest, DetachesWhatItKeeps) {
  const at::Tensor x = at::ones({}).requires_grad_();
  MetricSums sums;
  sums.Add("x", x * 2, 1);
  EXPECT_FALSE(sums.Pack().requires_grad());
}

}  // namespace
}  // namespace liger::trainer
