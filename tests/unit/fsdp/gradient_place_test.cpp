#include "kernels/gradient_place.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/unit/fsdp/cases.h"
#include "tests/unit/fsdp/ranks.h"
#include "worker/trainer/parallel/fsdp/sharded_model.h"

namespace liger::trainer {
namespace {

using kernels::GradientPlace;
using namespace testing_fsdp;

constexpr char kUp[] = "model.layers.1.mlp.up_proj.weight";

// Sharded over one rank.
void WithShards(at::ScalarType reduce,
                const std::function<void(ShardedModel&, const at::Tensor& up)>& look) {
  testing_ranks::RunRanks(1, 1, [&](const testing_ranks::Groups& groups) {
    const auto model = Model({"places", kUntied, 1, 1});
    ShardOptions options{.shards = groups.shards};
    options.reduce = reduce;
    ShardedModel sharded(*model, options);
    look(sharded, model->named_parameters()[kUp]);
    EXPECT_FALSE(GradientPlace::Of(model->HeadWeight()).defined()) << "it adds up in fp32";
  });
}

TEST(ShardedGradientPlaceTest, IsWhereABlocksGradientsAreSummedFrom) {
  WithShards(at::kFloat, [](ShardedModel& sharded, const at::Tensor& up) {
    const ShardedModel::Place& place = sharded.PlaceOf(kUp);
    for (int pass = 0; pass < 2; ++pass) {
      const at::Tensor made = GradientPlace::Of(up);
      ASSERT_TRUE(made.defined());
      EXPECT_EQ(made.sizes(), up.sizes());
      EXPECT_TRUE(made.is_alias_of(place.part->grad_whole));
      EXPECT_FALSE(GradientPlace::Of(up).defined()) << "the first is not added yet";
      made.fill_(pass + 1);
      place.part->AddGradient(place.item, made);
      EXPECT_FALSE(GradientPlace::Of(up).defined()) << "it would be written over";
      place.part->AddGradient(place.item, at::ones_like(up));
      EXPECT_TRUE(at::equal(place.part->GradientOf(place.item), at::full_like(up, pass + 2)));
      sharded.EndStep();
    }
  });
}

TEST(ShardedGradientPlaceTest, ABackwardPassWritesThere) {
  testing_ranks::RunRanks(1, 1, [&](const testing_ranks::Groups& groups) {
    const auto model = Model({"written", kUntied, 1, 1});
    ShardedModel sharded(*model, {.shards = groups.shards});
    int made = 0, there = 0;
    for (const auto& item : model->named_parameters()) {
      if (!item.key().starts_with("model.layers.") || !item.key().ends_with("_proj.weight")) {
        continue;
      }
      const ShardedModel::Place& place = sharded.PlaceOf(item.key());
      item.value().register_hook([&, place](const at::Tensor& grad) {
        ++made;
        there += grad.data_ptr() == place.part->GradientOf(place.item).data_ptr() ? 1 : 0;
      });
    }
    Backward(*model);
    EXPECT_EQ(made, 5 * 7);
    EXPECT_EQ(there, made);
  });
}

TEST(ShardedGradientPlaceTest, IsNoneWhereSumsAreOfAnotherDtype) {
  WithShards(at::kBFloat16, [](ShardedModel&, const at::Tensor& up) {
    EXPECT_FALSE(GradientPlace::Of(up).defined());
  });
}

}  // namespace
}  // namespace liger::trainer
