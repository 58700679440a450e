#include "worker/trainer/loop/best_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

liger::v1::TrainingSpec Spec(const std::string& metric, bool greater, int64_t patience,
                             double threshold) {
  liger::v1::TrainingSpec training;
  training.set_metric_for_best_model(metric);
  training.set_greater_is_better(greater);
  training.set_early_stopping_patience(patience);
  training.set_early_stopping_threshold(threshold);
  training.set_load_best_model_at_end(true);
  return training;
}

// Evaluations taken until it stops; the best step last.
std::pair<int, int64_t> Take(BestModel best, const std::vector<double>& values) {
  int taken = 0;
  for (const double value : values) {
    if (best.should_stop()) break;
    best.Update(++taken, {{best.metric(), value}});
  }
  return {taken, best.state().step};
}

TEST(BestModelTest, KeepsTheBestEvaluation) {
  BestModel best(Spec("loss", false, 0, 0));
  EXPECT_EQ(best.metric(), "eval_loss");
  EXPECT_TRUE(best.Update(10, {{"eval_loss", 3}}));
  EXPECT_FALSE(best.Update(20, {{"eval_loss", 3}})) << "no better";
  EXPECT_TRUE(best.Update(30, {{"eval_loss", 2}}));
  EXPECT_FALSE(best.Update(40, {{"eval_loss", 2.5}}));
  EXPECT_FALSE(best.Update(50, {{"eval_loss", std::numeric_limits<double>::quiet_NaN()}}));
  EXPECT_EQ(best.state().step, 30);
  EXPECT_EQ(best.state().metric, 2);
  EXPECT_FALSE(best.should_stop()) << "no patience was asked for";

  BestModel accuracy(Spec("eval_rewards/accuracies", true, 0, 0));
  EXPECT_TRUE(accuracy.Update(1, {{"eval_rewards/accuracies", 0.5}}));
  EXPECT_TRUE(accuracy.Update(2, {{"eval_rewards/accuracies", 0.7}}));
  EXPECT_FALSE(accuracy.Update(3, {{"eval_rewards/accuracies", 0.6}}));
}

// As transformers' EarlyStoppingCallback (5.23): compared with the best before, a
// gain of no more than the threshold uses patience up and is the best all the same.
TEST(BestModelTest, StopsAsEarlyStoppingCallbackDoes) {
  EXPECT_EQ(Take(BestModel(Spec("loss", false, 2, 0)), {3, 2, 2.5, 1, 1.5, 1.2, 0}),
            std::pair(6, int64_t{4}));
  EXPECT_EQ(Take(BestModel(Spec("loss", false, 2, 0.2)), {3, 2.9, 2.8, 0}),
            std::pair(3, int64_t{3}));
  EXPECT_EQ(Take(BestModel(Spec("loss", false, 2, 0.2)), {3, 2.9, 2.5, 2.45, 0}),
            std::pair(5, int64_t{5}));
  EXPECT_EQ(Take(BestModel(Spec("acc", true, 1, 0)), {0.5, 0.6, 0.6, 0.9}),
            std::pair(3, int64_t{2}));
}

TEST(BestModelTest, GoesOnFromItsState) {
  BestModel one(Spec("loss", false, 2, 0)), two(Spec("loss", false, 2, 0));
  one.Update(1, {{"eval_loss", 1}});
  one.Update(2, {{"eval_loss", 2}});
  two.Restore(one.state());
  EXPECT_FALSE(two.Update(3, {{"eval_loss", 1.5}}));
  EXPECT_TRUE(two.should_stop());
}

TEST(BestModelTest, NamesTheMetricsThereAre) {
  const BestModel best(Spec("bleu", true, 0, 0));
  try {
    best.RequireMetric({{"eval_loss", 1}, {"eval_entropy", 2}});
    FAIL();
  } catch (const TrainerError& error) {
    EXPECT_EQ(error.failure().field(), "training.metric_for_best_model");
    EXPECT_THAT(error.what(), testing::HasSubstr("'eval_bleu'"));
    EXPECT_EQ(error.failure().action(), "use one of eval_entropy, eval_loss");
  }
}

}  // namespace
}  // namespace liger::trainer
