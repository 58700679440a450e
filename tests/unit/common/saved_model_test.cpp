#include "common/spec/saved_model.h"

#include <gtest/gtest.h>

namespace liger {
namespace {

TEST(SavedModelText, SaysTheStepAndWhatDecided) {
  v1::BestEvaluation best;
  EXPECT_EQ(SavedModelText(60, best), "step 60");
  best.set_stopped_after_step(60);
  EXPECT_EQ(SavedModelText(60, best), "step 60; stopped early after step 60");
  best.set_metric("eval_loss");
  best.set_step(40);
  best.set_value(2.3125);
  EXPECT_EQ(SavedModelText(40, best),
            "step 40, of the best eval_loss (2.3125); stopped early after step 60");
  EXPECT_EQ(SavedModelText(60, best),
            "step 60; the best eval_loss, 2.3125, was that of step 40; stopped early after step 60")
      << "early stopping alone";
}

}  // namespace
}  // namespace liger
