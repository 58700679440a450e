#include "server/api/metric_points.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/store/memory_tables.h"

namespace liger::server {
namespace {

// Steps first to last, in chunks as the intake stores them.
std::vector<CountedChunk> Chunks(int64_t first, int64_t last, int64_t in_each = 1000) {
  std::vector<CountedChunk> rows;
  for (int64_t begin = first; begin <= last; begin += in_each) {
    liger::worker::v1::MetricChunk chunk;
    for (int64_t step = begin; step < begin + in_each && step <= last; ++step) {
      liger::trainer::v1::Step* sample = chunk.add_samples()->mutable_step();
      sample->set_step(step);
      (*sample->mutable_values())["loss"] = 1.0 / static_cast<double>(step);
    }
    rows.push_back({{.job_uid = "u",
                     .first_step = begin,
                     .last_step = std::min(begin + in_each - 1, last),
                     .blob = chunk.SerializeAsString()},
                    0});
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
  constexpr int64_t kInEach = 2;
  using Range = std::pair<int64_t, int64_t>;
  struct Found {
    std::vector<int64_t> steps;
    size_t chunks = 0;
  };
  const auto find = [](const std::vector<Range>& attempts, int64_t from = 0, int64_t to = 0) {
    MemoryTables tables;
    for (size_t i = 0; i < attempts.size(); ++i) {
      const auto epoch = static_cast<int64_t>(i + 1);
      tables.PutAttempt({.job_uid = "u", .epoch = epoch});
      for (CountedChunk& chunk : Chunks(attempts[i].first, attempts[i].second, kInEach)) {
        chunk.row.epoch = epoch;
        tables.AddMetricChunk(chunk.row);
      }
    }
    liger::v1::QueryMetricsRequest request;
    request.set_from_step(from);
    request.set_to_step(to);
    const std::vector<CountedChunk> chunks = ChunksFor(tables, "u", request);
    Found found{.chunks = chunks.size()};
    const auto points = ToPoints(chunks, request);
    for (const auto& point : points->points()) found.steps.push_back(point.step());
    return found;
  };
  const auto steps = [&find](const std::vector<Range>& attempts, int64_t from = 0, int64_t to = 0) {
    return find(attempts, from, to).steps;
  };
  EXPECT_THAT(steps({{1, 5}, {4, 7}}), testing::ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(steps({{1, 5}, {4, 7}}, 3, 4), testing::ElementsAre(3, 4));
  EXPECT_THAT(steps({{1, 5}, {1, 2}}), testing::ElementsAre(1, 2));
  EXPECT_THAT(steps({{1, 5}, {1, 2}}, 3), testing::IsEmpty());
  EXPECT_THAT(steps({{1, 5}, {4, 5}, {3, 3}}, 2), testing::ElementsAre(2, 3));
  EXPECT_THAT(steps({{1, 5}, {1, 0}, {6, 7}}), testing::ElementsAre(1, 2, 3, 4, 5, 6, 7));
  // A client that polls reads what is new, however many attempts there were.
  const Found news = find({{1, 1000}, {900, 2000}, {1900, 3000}}, 2999);
  EXPECT_THAT(news.steps, testing::ElementsAre(2999, 3000));
  EXPECT_EQ(news.chunks, 2);
}

}  // namespace
}  // namespace liger::server
