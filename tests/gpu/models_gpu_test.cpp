// The same models and objectives on one GPU: attention against fp64, tiny models against
// transformers' fp32 fixtures.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "tests/unit/models/golden.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/models/attention.h"
#include "worker/trainer/models/generate.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

const at::Device kGpu("cuda:0");

class GpuTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    // The program links libtorch_cpu only, as liger-trainer does.
    ASSERT_NE(dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL), nullptr) << dlerror();
    ASSERT_TRUE(at::globalContext().hasCUDA());
  }
};

// Output and the gradients of query, key and value.
std::vector<at::Tensor> Attention(const std::vector<at::Tensor>& qkvg, at::Device device,
                                  at::ScalarType dtype, AttentionOptions options = {}) {
  options.scale = 1 / std::sqrt(static_cast<double>(qkvg[0].size(2)));
  const at::Tensor cu_seqlens = at::tensor({0, 7, 8, 300, 411}, at::kInt);
  std::vector<at::Tensor> x;
  for (const at::Tensor& t : qkvg) x.push_back(t.to(device, dtype).clone().requires_grad_());
  const at::Tensor out =
      CausalAttention(x[0], x[1], x[2], SequenceLayout::FromCuSeqlens(cu_seqlens, device), options);
  auto results = torch::autograd::grad({out}, {x[0], x[1], x[2]}, {x[3].detach()});
  results.insert(results.begin(), out.detach());
  return results;
}

TEST_F(GpuTest, AttentionOfRaggedBatches) {
  at::manual_seed(1);
  for (const int64_t head_dim : {64, 128, 20}) {
    std::vector<at::Tensor> qkvg;
    for (const int64_t heads : {8, 2, 2, 8}) {
      qkvg.push_back(at::randn({411, heads, head_dim}, at::kDouble));
    }
    const auto expected = Attention(qkvg, at::kCPU, at::kDouble);
    for (const auto& [dtype, tolerance] :
         {std::pair(at::kFloat, 2e-6), {at::kHalf, 1e-3}, {at::kBFloat16, 8e-3}}) {
      const auto actual = Attention(qkvg, kGpu, dtype);
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_LT(golden::RelativeError(actual[i].cpu(), expected[i]), tolerance)
            << "tensor " << i << ", head_dim " << head_dim << ", " << dtype;
      }
    }
  }
}

TEST_F(GpuTest, AttentionWithWindowAndSoftcap) {
  at::manual_seed(2);
  std::vector<at::Tensor> qkvg;
  for (const int64_t heads : {8, 2, 2, 8}) qkvg.push_back(at::randn({411, heads, 64}, at::kDouble));
  for (const AttentionOptions& options :
       {AttentionOptions{.window = 50}, AttentionOptions{.softcap = 2},
        AttentionOptions{.window = 50, .softcap = 2}}) {
    const auto expected = Attention(qkvg, at::kCPU, at::kDouble, options);
    for (const auto& [dtype, tolerance] :
         {std::pair(at::kFloat, 2e-6), {at::kHalf, 1e-3}, {at::kBFloat16, 8e-3}}) {
      const auto actual = Attention(qkvg, kGpu, dtype, options);
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_LT(golden::RelativeError(actual[i].cpu(), expected[i]), tolerance)
            << "tensor " << i << ", " << dtype << ", window " << options.window << ", softcap "
            << options.softcap;
      }
    }
  }
}

// Two answers to one prompt, computed once and twice.
TEST_F(GpuTest, SharedPrefixesChangeNothing) {
  ExampleSet set;
  for (const std::vector<int32_t>& ids : std::vector<std::vector<int32_t>>{
           {1, 2, 3, 4, 5, 6, 7}, {1, 2, 3, 4, 9, 9}, {8, 7, 6}, {1, 2, 3, 4, 9, 1, 1, 1}}) {
    set.sequences.push_back({.input_ids = ids, .labels = ids});
  }
  const std::vector<int64_t> rows = {0, 1, 2, 3};
  const Batch batch = MakeBatch(set, rows);
  for (const auto& [dtype, tolerance] : {std::pair(at::kFloat, 1e-5), {at::kBFloat16, 2e-2}}) {
    for (const char* name : {"gqa_tied_v5", "gemma2_v5", "mistral_window_v5"}) {
      std::vector<std::map<std::string, at::Tensor>> results;
      for (const bool shared : {false, true}) {
        liger::v1::KernelSpec kernels = golden::Kernels("LIGER");
        kernels.set_shared_prefixes(shared);
        const std::string folder = golden::Folder(std::string("tiny/") + name);
        const auto model = BuildModel(ModelConfig::FromFolder(folder), kernels);
        LoadWeights(*model, folder);
        model->to(kGpu, dtype);
        SftObjective sft;
        golden::WholeStep(sft, *model, batch).loss.backward();
        auto& result = results.emplace_back();
        for (const auto& item : model->named_parameters()) {
          result[item.key()] = item.value().grad().cpu();
        }
      }
      for (const auto& [key, expected] : results[0]) {
        EXPECT_LT(golden::RelativeError(results[1][key], expected), tolerance)
            << name << " " << key << " " << dtype;
      }
    }
  }
}

TEST_F(GpuTest, DeterministicAttentionRepeatsItsBits) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  std::vector<at::Tensor> qkvg;
  for (const int64_t heads : {8, 2, 2, 8}) qkvg.push_back(at::randn({411, heads, 64}));
  const auto first = Attention(qkvg, kGpu, at::kBFloat16);
  for (int run = 0; run < 5; ++run) {
    const auto again = Attention(qkvg, kGpu, at::kBFloat16);
    for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(again[i].equal(first[i])) << i;
  }
  at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/false);
}

// Of /proc/self/status, in bytes.
int64_t AnonymousMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8)) * 1024;
  }
  return 0;
}

// From the files to the device: the host holds one tensor at a time, converted.
TEST_F(GpuTest, WeightsGoStraightToTheDevice) {
  nlohmann::json json = golden::ReadJson(golden::Folder("tiny/gqa_tied_v5/config.json"));
  json.update({{"hidden_size", 1024},
               {"head_dim", 256},
               {"intermediate_size", 4096},
               {"num_hidden_layers", 16}});
  const ModelConfig config = ModelConfig::FromJson(json, "config.json");
  const std::string dir = testing::TempDir() + "/weights-" + std::to_string(getpid());
  const auto kernels = golden::Kernels("LIGER");
  const auto original = BuildModel(config, kernels, at::kBFloat16);
  InitializeWeights(*original, 7);
  std::vector<NamedTensor> tensors;
  int64_t bytes = 0, largest = 0;
  for (const auto& item : original->named_parameters()) {
    tensors.push_back({item.key(), item.value()});
    bytes += item.value().numel() * 4;
    largest = std::max<int64_t>(largest, item.value().numel() * 4);
  }
  OutputFolder folder(dir, /*overwrite=*/false, 0);
  WriteWeights(folder, tensors, at::kBFloat16, 64 << 20);
  folder.Commit();

  const auto model = BuildModel(config, kernels, at::TensorOptions(kGpu).dtype(at::kFloat));
  const int64_t before = AnonymousMemory();
  std::atomic<int64_t> most = 0;
  std::atomic<bool> done = false;
  std::thread watcher([&] {
    while (!done) {
      most = std::max<int64_t>(most, AnonymousMemory() - before);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  LoadWeights(*model, dir);
  done = true;
  watcher.join();
  std::filesystem::remove_all(dir);
  const int64_t slack = 64 << 20;  // what CUDA takes at the first copy
  ASSERT_GT(bytes, 4 * (largest + slack));
  EXPECT_LE(most, largest + slack);
  for (const auto& item : model->named_parameters()) {
    EXPECT_TRUE(
        at::equal(item.value().cpu().to(at::kBFloat16), original->named_parameters()[item.key()]))
        << item.key();
  }
}

TEST_F(GpuTest, TinyModelsAreTransformersInFp32) {
  for (const std::string& name : golden::TinyCases()) {
    const std::string folder = golden::Folder("tiny/" + name);
    const auto expected = golden::ReadJson(folder + "/expected.json");
    const auto tensors = SafetensorsFile::Open(folder + "/expected.safetensors");
    SftObjective sft;
    OrpoObjective orpo(expected["beta"].get<double>());
    for (const std::string kernels : {"LIGER", "BASELINE"}) {
      for (const std::string method : {"sft", "orpo"}) {
        const auto& rows = expected[method + "_batches"][0];
        const bool pairs = method == "orpo";
        Objective& objective = pairs ? static_cast<Objective&>(orpo) : sft;
        const auto model = golden::LoadModel(folder, kernels);
        model->to(kGpu);
        ApplyActivationCheckpointing(*model);
        const LossOutput out = golden::WholeStep(
            objective, *model, pairs ? golden::PairBatch(rows) : golden::SftBatch(rows));
        out.loss.backward();
        for (const auto& [metric, value] : expected[method][0].items()) {
          EXPECT_NEAR(out.metrics.Means().at(metric), value.get<double>(), 1e-5) << metric;
        }
        for (const auto& item : model->named_parameters()) {
          EXPECT_LT(golden::RelativeError(item.value().grad().cpu(),
                                          tensors->View(method + "." + item.key())),
                    1e-5)
              << name << " " << kernels << " " << item.key();
        }
      }
    }
    const auto model = golden::LoadModel(folder, "LIGER");
    model->to(kGpu);
    const auto prompt = expected["greedy"]["prompt"].get<std::vector<int32_t>>();
    const auto answer = expected["greedy"]["answer"].get<std::vector<int32_t>>();
    EXPECT_EQ(GenerateGreedy(*model, prompt, static_cast<int64_t>(answer.size()), {}), answer);
  }
}

// In bfloat16, with rows of one length and of several. Attention is PyTorch's FlashAttention, which
// takes all orders from the deterministic mode, or cuDNN, whose backward pass adds up in any order.
void ExpectKeptActivationsChangeNoGradient(double tolerance) {
  auto json = golden::ReadJson(golden::Folder("tiny/mha_untied_hub") + "/config.json");
  json.update({{"hidden_size", 256},
               {"intermediate_size", 512},
               {"num_hidden_layers", 6},
               {"num_key_value_heads", 2}});
  std::ofstream(testing::TempDir() + "/config.json") << json;
  const ModelConfig config = ModelConfig::FromFolder(testing::TempDir());
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{1024, 1024}, {1500, 300, 7}}) {
    std::vector<std::vector<at::Tensor>> grads;
    for (const CheckpointPolicy& policy :
         {CheckpointPolicy{}, CheckpointPolicy{.keep_attention = true},
          CheckpointPolicy{.offload = true},
          CheckpointPolicy{.keep_attention = true, .offload = true},
          CheckpointPolicy{.every = 2, .keep_attention = true, .offload = true}}) {
      const auto model = BuildModel(config, golden::Kernels("LIGER"),
                                    at::TensorOptions(kGpu).dtype(at::kBFloat16));
      InitializeWeights(*model, 1);
      ApplyActivationCheckpointing(*model, policy);
      for (int micro = 0; micro < 4; ++micro) {
        nlohmann::json rows;
        for (const int64_t length : lengths) {
          std::vector<int32_t> ids;
          for (int64_t i = 0; i < length; ++i) {
            ids.push_back(static_cast<int32_t>(3 + (i * i + 7 * micro + length) % 90));
          }
          rows.push_back({{"input_ids", ids}, {"labels", ids}});
        }
        const Batch batch = golden::SftBatch(rows);
        model->Hidden(ToModelInput(batch, *model)).to(at::kFloat).square().mean().backward();
      }
      auto& result = grads.emplace_back();
      for (const auto& parameter : model->parameters()) {
        if (parameter.grad().defined()) result.push_back(parameter.grad());
      }
    }
    for (size_t policy = 1; policy < grads.size(); ++policy) {
      ASSERT_EQ(grads[policy].size(), grads[0].size());
      for (size_t i = 0; i < grads[0].size(); ++i) {
        EXPECT_LE(golden::RelativeError(grads[policy][i], grads[0][i]), tolerance)
            << "policy " << policy << " gradient " << i << " lengths " << lengths;
      }
    }
  }
}

TEST_F(GpuTest, KeptActivationsChangeNoGradient) { ExpectKeptActivationsChangeNoGradient(1e-2); }

TEST_F(GpuTest, KeptActivationsChangeNoBitOfADeterministicGradient) {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/1);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  ExpectKeptActivationsChangeNoGradient(0);
  at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/false);
}

}  // namespace
}  // namespace liger::trainer
