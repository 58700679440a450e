// All fused kernels on against all off, over a few optimizer steps of a small Llama: the same
// losses, and parameters that move apart no further than a change of the attention's
// implementation moves them. On the CPU in small, and on a GPU (LIGER_TEST_DEVICE) at the size
// that Liger's own convergence tests have.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "tests/paths.h"
#include "tests/unit/models/golden.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/sft.h"

namespace liger::trainer {
namespace {

const at::Device kDevice(LIGER_TEST_DEVICE);

struct Size {
  int64_t hidden, layers, vocabulary, rows, length, steps;
  double learning_rate;
};
const Size kSize =
    kDevice.is_cuda() ? Size{1024, 4, 32000, 4, 512, 32, 3e-4} : Size{64, 2, 300, 2, 32, 12, 2e-3};

// How the scores of attention come about: as the trainer computes them, as plain operations, or by
// PyTorch's scaled_dot_product_attention.
enum class Scores { kFused, kPlain, kSdpa };

// A softcap so large that it changes no score, and a power of two, so that dividing and
// multiplying by it round nothing: what it changes is that attention then runs as plain
// operations ("eager").
constexpr double kNoCap = 1 << 20;

// While one lives, liger::attention on a GPU is PyTorch's scaled_dot_product_attention over
// sequences of equal length, keys and values repeated for their query heads, as transformers calls
// it: in fp32 the memory-efficient kernel. For fp32 the trainer itself runs plain operations on a
// GPU, so this is the other of the two attentions that the issue compares.
class SdpaAttention {
 public:
  SdpaAttention()
      : library_(torch::Library::IMPL, "liger", c10::DispatchKey::AutogradCUDA, __FILE__,
                 __LINE__) {
    library_.impl("attention", Run);
  }
  ~SdpaAttention() { EXPECT_GT(std::exchange(calls_, 0), 0) << "the model did not use it"; }

 private:
  static at::Tensor Run(const at::Tensor& query_TNH, const at::Tensor& key_TKH,
                        const at::Tensor& value_TKH, at::IntArrayRef offsets, at::IntArrayRef,
                        double scale, int64_t window, double softcap, c10::string_view,
                        const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {
    const auto rows = static_cast<int64_t>(offsets.size()) - 1;
    TORCH_CHECK(query_TNH.size(0) == rows * kSize.length && softcap == 0 && window == 0, "rows of ",
                kSize.length, " tokens were expected");
    ++calls_;
    const int64_t groups = query_TNH.size(1) / key_TKH.size(1);
    const auto batched = [&](const at::Tensor& x_TNH) {
      return x_TNH.unflatten(0, {rows, -1}).transpose(1, 2);
    };
    const at::Tensor out_BNLH = at::scaled_dot_product_attention(
        batched(query_TNH), batched(key_TKH).repeat_interleave(groups, 1),
        batched(value_TKH).repeat_interleave(groups, 1), /*attn_mask=*/{}, /*dropout_p=*/0,
        /*is_causal=*/true, scale);
    return out_BNLH.transpose(1, 2).flatten(0, 1).contiguous();
  }

  static inline int calls_ = 0;
  torch::Library library_;
};

ModelConfig Config(Scores scores) {
  const nlohmann::json json = {{"model_type", "llama"},
                               {"hidden_size", kSize.hidden},
                               {"intermediate_size", 3 * kSize.hidden},
                               {"num_hidden_layers", kSize.layers},
                               {"num_attention_heads", 8},
                               {"num_key_value_heads", 2},
                               {"vocab_size", kSize.vocabulary},
                               {"max_position_embeddings", 4096},
                               {"hidden_act", "silu"},
                               {"rms_norm_eps", 1e-5},
                               {"rope_theta", 10000.0},
                               {"initializer_range", 0.02},
                               {"tie_word_embeddings", false},
                               {"bos_token_id", 1},
                               {"eos_token_id", 2}};
  ModelConfig config = ModelConfig::FromJson(json, "convergence_test");
  if (scores == Scores::kPlain) config.attn_logit_softcapping = kNoCap;
  return config;
}

// A batch a step; the bytes of a text are its tokens.
std::vector<Batch> Batches() {
  std::ifstream file(SourceDir() + "/tests/data/wiki_demo.txt");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t needed = kSize.steps * kSize.rows * kSize.length;
  if (text.size() < needed) throw std::runtime_error("tests/data/wiki_demo.txt is too short");
  std::vector<Batch> batches;
  size_t at = 0;
  for (int64_t step = 0; step < kSize.steps; ++step) {
    nlohmann::json rows = nlohmann::json::array();
    for (int64_t row = 0; row < kSize.rows; ++row, at += kSize.length) {
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < kSize.length; ++i) {
        ids.push_back(3 + static_cast<unsigned char>(text[at + i]));
      }
      rows.push_back({{"input_ids", ids}, {"labels", ids}});
    }
    batches.push_back(golden::SftBatch(rows));
  }
  return batches;
}

struct Outcome {
  std::vector<double> losses;
  std::vector<at::Tensor> movement;  // of each parameter, in double
};

Outcome Train(const std::string& kernels, Scores scores, liger::v1::Precision preset,
              uint64_t seed) {
  liger::v1::TrainingSpec training;
  training.set_precision(preset);
  const PrecisionPlan plan = ResolvePrecision(training, kDevice.is_cuda());
  const auto model = BuildModel(Config(scores), golden::Kernels(kernels), plan.storage);
  InitializeWeights(*model, seed);
  model->to(kDevice);
  model->train();
  SftObjective sft;
  golden::Trainee trainee(sft, *model, {}, plan);
  std::optional<SdpaAttention> sdpa;
  if (scores == Scores::kSdpa) sdpa.emplace();
  const at::NoGradGuard no_grad;
  Outcome outcome;
  for (const auto& entry : trainee.parameters().entries()) {
    outcome.movement.push_back(entry.storage.to(at::kDouble, false, /*copy=*/true));
  }
  for (const Batch& batch : Batches()) {
    const at::AutoGradMode with_grad(true);
    outcome.losses.push_back(trainee.Step({batch}, kSize.learning_rate, /*max_grad_norm=*/0).loss);
  }
  size_t i = 0;
  for (const auto& entry : trainee.parameters().entries()) {
    at::Tensor& moved = outcome.movement[i++];
    moved = entry.storage.to(at::kDouble) - moved;
  }
  return outcome;
}

double Norm(const std::vector<at::Tensor>& tensors) {
  double sum = 0;
  for (const at::Tensor& t : tensors) sum += t.square().sum().item<double>();
  return std::sqrt(sum);
}

// ||a - b|| / ||b|| over all parameters.
double Apart(const Outcome& a, const Outcome& b) {
  std::vector<at::Tensor> difference;
  for (size_t i = 0; i < a.movement.size(); ++i) {
    difference.push_back(a.movement[i] - b.movement[i]);
  }
  return Norm(difference) / Norm(b.movement);
}

class ConvergenceTest : public testing::TestWithParam<liger::v1::Precision> {
 protected:
  static void SetUpTestSuite() {
    if (!kDevice.is_cuda()) return;
    // The program links libtorch_cpu only, as liger-trainer does.
    ASSERT_NE(dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL), nullptr) << dlerror();
    ASSERT_TRUE(at::globalContext().hasCUDA());
  }
};

// Weights to begin with. In fp32 what moves parameters apart is rounding that AdamW makes much of
// where a gradient is small beside its rounding: from seed to seed of the small model it differs
// tenfold, for kernels and attention alike, so that one alone says nothing. At the GPU's size it is
// the seed of Liger's own tests.
std::vector<uint64_t> Seeds(liger::v1::Precision precision) {
  if (kDevice.is_cuda() || precision != liger::v1::PRECISION_FP32) return {42};
  return {42, 43, 44, 45, 46, 47, 48, 49};
}

double GeometricMean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += std::log(value);
  return std::exp(sum / static_cast<double>(values.size()));
}

TEST_P(ConvergenceTest, KernelsOnIsKernelsOff) {
  const bool is_plain_already = kDevice.is_cuda() && GetParam() == liger::v1::PRECISION_FP32;
  const Scores others = is_plain_already ? Scores::kSdpa : Scores::kPlain;
  std::vector<double> kernels, attention;
  double worst_loss = 0;
  for (const uint64_t seed : Seeds(GetParam())) {
    const Outcome off = Train("BASELINE", Scores::kFused, GetParam(), seed);
    const Outcome on = Train("LIGER", Scores::kFused, GetParam(), seed);
    const Outcome other = Train("BASELINE", others, GetParam(), seed);
    for (size_t i = 0; i < off.losses.size(); ++i) {
      worst_loss = std::max(worst_loss, std::abs(on.losses[i] / off.losses[i] - 1));
    }
    kernels.push_back(Apart(on, off));
    attention.push_back(Apart(other, off));
    std::printf("%s, seed %d: losses %.4f to %.4f; movement %.2e, by attention %.2e\n",
                liger::v1::Precision_Name(GetParam()).c_str(), static_cast<int>(seed),
                off.losses.front(), off.losses.back(), kernels.back(), attention.back());
    ASSERT_GT(attention.back(), 0) << "the two attentions are one";
    EXPECT_LT(on.losses.back(), 0.9 * on.losses.front());
    EXPECT_LT(off.losses.back(), 0.9 * off.losses.front());
  }
  std::printf("on against off within %.1e; movement %.2e, by attention %.2e\n", worst_loss,
              GeometricMean(kernels), GeometricMean(attention));
  if (GetParam() == liger::v1::PRECISION_FP32) {
    EXPECT_LT(worst_loss, 1e-5);
  }
  EXPECT_LE(GeometricMean(kernels), 2 * GeometricMean(attention));
}

INSTANTIATE_TEST_SUITE_P(Precisions, ConvergenceTest,
                         testing::Values(liger::v1::PRECISION_FP32, liger::v1::PRECISION_BF16_MIXED,
                                         liger::v1::PRECISION_BF16_NEAREST),
                         [](const auto& info) { return liger::v1::Precision_Name(info.param); });

}  // namespace
}  // namespace liger::trainer
