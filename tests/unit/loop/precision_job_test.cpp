#include <gtest/gtest.h>

#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using Event = liger::trainer::v1::Event;

class PrecisionJobTest : public testing::TestWithParam<liger::v1::Precision> {};

// Every preset trains a job to a lower evaluation loss and saves its storage dtype.
TEST_P(PrecisionJobTest, Learns) {
  const TinyJob job;
  Request request = job.Sft();
  auto* training = request.launch.mutable_resolved_spec()->mutable_training();
  for (auto dtype : {&liger::v1::TrainingSpec::clear_storage_dtype,
                     &liger::v1::TrainingSpec::clear_compute_dtype,
                     &liger::v1::TrainingSpec::clear_gradient_dtype,
                     &liger::v1::TrainingSpec::clear_optimizer_dtype}) {
    (training->*dtype)();
  }
  training->set_precision(GetParam());
  const TaskOutcome outcome = RunRecorded(request);
  ASSERT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();
  const auto evaluations = outcome.sink.All(Event::kEval);
  EXPECT_LT(evaluations.back().eval().values().at("eval_loss"),
            0.9 * evaluations.front().eval().values().at("eval_loss"));

  const bool bf16 = GetParam() == liger::v1::PRECISION_BF16_STOCHASTIC ||
                    GetParam() == liger::v1::PRECISION_BF16_NEAREST;
  const auto file = SafetensorsFile::Open(job.Path("attempt/model/model.safetensors"));
  for (const auto& [name, info] : file->tensors()) {
    EXPECT_EQ(info.dtype, bf16 ? at::kBFloat16 : at::kFloat) << name;
  }
  const bool warned = !outcome.sink.All(Event::kWarning).empty();
  EXPECT_EQ(warned, GetParam() == liger::v1::PRECISION_BF16_NEAREST);
}

INSTANTIATE_TEST_SUITE_P(Presets, PrecisionJobTest,
                         testing::Values(liger::v1::PRECISION_FP32, liger::v1::PRECISION_BF16_MIXED,
                                         liger::v1::PRECISION_BF16_STOCHASTIC,
                                         liger::v1::PRECISION_BF16_NEAREST),
                         [](const auto& info) { return liger::v1::Precision_Name(info.param); });

}  // namespace
}  // namespace liger::trainer
