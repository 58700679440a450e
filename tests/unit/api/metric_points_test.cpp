#include "server/api/metric_points.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "liger/worker/v1/worker.pb.h"

namespace liger::server {
namespace {

// Steps first to last, in chunks as the intake stores them.
std::vector<MetricChunkRow> Chunks(int64_t first, int64_t last) {
  constexpr int64_t kChunk = 1000;
  std::vector<MetricChunkRow> rows;
  for (int64_t begin = first; begin <= last; begin += kChunk) {
    liger::worker::v1::MetricChunk chunk;
    for (int64_t step = begin; step < begin + kChunk && step <= last; ++step) {
      liger::trainer::v1::Step* sample = chunk.add_samples()->mutable_step();
      sample->set_step(step);
      (*sample->mutable_values())["loss"] = 1.0 / static_cast<double>(step);
    }
    rows.push_back({.first_step = begin, .blob = chunk.SerializeAsString()});
  }
  return rows;
}

TEST(MetricPoints, AsManyAsFitComeWhole) {
  const auto whole = ToPoints(Chunks(1, kMaxMetricPoints), {});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_FALSE(whole->thinned());
  EXPECT_EQ(whole->points_size(), static_cast<int>(kMaxMetricPoints));
}

TEST(MetricPoints, MoreAreThinnedEvenlyAndVisibly) {
  const int64_t last = 3 * static_cast<int64_t>(kMaxMetricPoints) + 1;
  const auto thinned = ToPoints(Chunks(1, last), {});
  ASSERT_TRUE(thinned.ok()) << thinned.status();
  EXPECT_TRUE(thinned->thinned());
  ASSERT_EQ(thinned->points_size(), static_cast<int>(kMaxMetricPoints));
  EXPECT_EQ(thinned->points(0).step(), 1);
  EXPECT_EQ(thinned->points().rbegin()->step(), last);
  for (int i = 1; i < thinned->points_size(); ++i) {
    const int64_t gap = thinned->points(i).step() - thinned->points(i - 1).step();
    ASSERT_GE(gap, 3) << "at point " << i;
    ASSERT_LE(gap, 4) << "at point " << i;
  }
  // A range that fits is whole again.
  liger::v1::QueryMetricsRequest range;
  range.set_from_step(100);
  range.set_to_step(199);
  const auto some = ToPoints(Chunks(1, last), range);
  EXPECT_FALSE(some->thinned());
  EXPECT_EQ(some->points_size(), 100);
}

TEST(MetricPoints, AnAttemptsStepsEndWhereTheNextOnesBegin) {
  const auto of_attempt = [](int64_t epoch, int64_t first, int64_t last) {
    std::vector<MetricChunkRow> rows = Chunks(first, last);
    for (MetricChunkRow& row : rows) row.epoch = epoch;
    return rows;
  };
  const auto steps = [](const std::vector<std::vector<MetricChunkRow>>& attempts,
                        int64_t from = 0) {
    std::vector<MetricChunkRow> chunks;
    for (const auto& rows : attempts) chunks.insert(chunks.end(), rows.begin(), rows.end());
    liger::v1::QueryMetricsRequest request;
    request.set_from_step(from);
    std::vector<int64_t> steps;
    const auto points = ToPoints(chunks, request);
    for (const auto& point : points->points()) steps.push_back(point.step());
    return steps;
  };
  const auto first = of_attempt(1, 1, 5);
  EXPECT_THAT(steps({first, of_attempt(2, 4, 7)}), testing::ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(steps({first, of_attempt(2, 1, 2)}), testing::ElementsAre(1, 2));
  EXPECT_THAT(steps({first, of_attempt(2, 1, 2)}, 3), testing::IsEmpty());
  EXPECT_THAT(steps({first, of_attempt(2, 4, 5), of_attempt(3, 3, 3)}, 2),
              testing::ElementsAre(2, 3));
}

}  // namespace
}  // namespace liger::server
