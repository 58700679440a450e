// Every family in bf16: each gradient of LIGER is at most twice as far from the one that
// transformers computes in fp32 as that of BASELINE, which is written the way transformers writes
// its models. On a CPU in `make test`; tests/gpu builds the same for one GPU.
#include <ATen/ATen.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/unit/models/golden.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"

namespace liger::trainer {
namespace {

const at::Device kDevice(LIGER_TEST_DEVICE);

class Bf16Test : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    if (!kDevice.is_cuda()) return;
    ASSERT_NE(dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL), nullptr) << dlerror();
    ASSERT_TRUE(at::globalContext().hasCUDA());
  }

  // Gradients of the first batch, by name.
  static std::map<std::string, at::Tensor> Gradients(Objective& objective, const Batch& batch,
                                                     const std::string& kernels) {
    const std::string folder = golden::Folder("tiny/" + GetParam());
    const auto model = BuildModel(ModelConfig::FromFolder(folder), golden::Kernels(kernels),
                                  at::TensorOptions(kDevice).dtype(at::kBFloat16));
    LoadWeights(*model, folder);
    golden::WholeStep(objective, *model, batch).loss.backward();
    std::map<std::string, at::Tensor> gradients;
    for (const auto& item : model->named_parameters()) {
      gradients[item.key()] = item.value().grad().cpu().to(at::kDouble);
    }
    return gradients;
  }

  // DESIGN's rule, for one gradient.
  static void ExpectNear(const at::Tensor& ours, const at::Tensor& theirs, const at::Tensor& exact,
                         const std::string& what) {
    const double ours_l2 = golden::RelativeError(ours, exact);
    const double theirs_l2 = golden::RelativeError(theirs, exact);
    EXPECT_LE(ours_l2, 2 * theirs_l2 + 1e-6) << what;
    const double largest = exact.abs().max().item<double>();
    const double ours_max = (ours - exact).abs().max().item<double>();
    const double theirs_max = (theirs - exact).abs().max().item<double>();
    EXPECT_LE(ours_max, 2 * theirs_max + 1e-6 * largest) << what;
  }
};

TEST_P(Bf16Test, NoFurtherFromFp32ThanTheBaseline) {
  const std::string folder = golden::Folder("tiny/" + GetParam());
  const auto expected = golden::ReadJson(folder + "/expected.json");
  const auto exact = SafetensorsFile::Open(folder + "/expected.safetensors");
  SftObjective sft;
  OrpoObjective orpo(expected["beta"].get<double>());
  for (const std::string method : {"sft", "orpo"}) {
    const auto& rows = expected[method + "_batches"][0];
    const bool pairs = method == "orpo";
    Objective& objective = pairs ? static_cast<Objective&>(orpo) : sft;
    const Batch batch = pairs ? golden::PairBatch(rows) : golden::SftBatch(rows);
    const auto ours = Gradients(objective, batch, "LIGER");
    const auto theirs = Gradients(objective, batch, "BASELINE");
    for (const auto& [name, gradient] : ours) {
      ExpectNear(gradient, theirs.at(name), exact->View(method + "." + name).to(at::kDouble),
                 method + " " + name);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Bf16Test, testing::ValuesIn(golden::TinyCases()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace liger::trainer
