#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "kernels/linear/gemm_onednn.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/panel_gemm.h"
#include "kernels/linear/split_gemm.h"

namespace liger::kernels {
namespace {

constexpr int kNumKinds = 3;
using Choices = std::array<GemmLibrary, kNumKinds>;

Choices All(GemmLibrary library) { return {library, library, library}; }

bool IsAmd() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

// Shortest of five runs, in seconds. The first, which may build a plan, is not counted.
template <typename F>
double BestTime(F&& run) {
  run();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::min(best, elapsed.count());
  }
  return best;
}

Choices Probe() {
  constexpr int64_t T = 128, K = 512, N = 1024;
  constexpr double kWorthIt = 1.15;
  const at::Tensor x = at::ones({T, K}), w = at::ones({N, K}), g = at::ones({T, N});
  at::Tensor acc = at::zeros({N, K});
  const auto pick = [](double mkl, double onednn) {
    return mkl > kWorthIt * onednn ? GemmLibrary::kOneDnn : GemmLibrary::kMkl;
  };
  return {pick(BestTime([&] { at::mm(x, w.t()); }), BestTime([&] { gemm::OneDnnXWt(x, w); })),
          pick(BestTime([&] { at::mm(g, w); }), BestTime([&] { gemm::OneDnnXWt(g, w.t()); })),
          pick(BestTime([&] { at::addmm_out(acc, acc, g.t(), x); }),
               BestTime([&] { acc.add_(gemm::OneDnnXWt(g.t(), x.t())); }))};
}

Choices Choose() {
  const char* env = std::getenv("LIGER_CPU_GEMM");
  const std::string_view asked = env == nullptr ? "" : env;
  TORCH_CHECK_VALUE(asked.empty() || asked == "mkl" || asked == "onednn" || asked == "amx_split" ||
                        asked == "avx512",
                    "LIGER_CPU_GEMM is '", asked,
                    "', expected 'mkl', 'onednn', 'avx512' or 'amx_split'");
  TORCH_CHECK_VALUE(asked != "amx_split" || gemm::HasSplit(),
                    "LIGER_CPU_GEMM is 'amx_split', but this CPU or kernel has no AMX with "
                    "bfloat16; unset it");
  TORCH_CHECK_VALUE(asked != "onednn" || gemm::HasOneDnn(),
                    "LIGER_CPU_GEMM is 'onednn', but this libtorch was built without oneDNN");
  TORCH_CHECK_VALUE(asked != "avx512" || gemm::HasPanelGemm(),
                    "LIGER_CPU_GEMM is 'avx512', but this CPU has no AVX-512 (F, VL, BW, DQ); "
                    "unset it");
  if (asked == "onednn") return All(GemmLibrary::kOneDnn);
  if (asked == "avx512") return All(GemmLibrary::kAvx512);
  if (asked == "amx_split" || (asked.empty() && gemm::HasSplit())) {
    return All(GemmLibrary::kAmxSplit);
  }
  if (asked == "mkl") return All(GemmLibrary::kMkl);
  if (IsAmd() && gemm::HasPanelGemm()) return All(GemmLibrary::kAvx512);
  if (!gemm::HasOneDnn()) return All(GemmLibrary::kMkl);
  if (at::globalContext().deterministicAlgorithms()) {
    return All(IsAmd() ? GemmLibrary::kOneDnn : GemmLibrary::kMkl);
  }
  return Probe();
}

}  // namespace

std::string_view GemmLibraryName(GemmLibrary library) {
  constexpr std::string_view kNames[] = {"mkl", "onednn", "amx_split", "avx512"};
  return kNames[static_cast<size_t>(library)];
}

GemmLibrary CpuGemm(GemmKind kind) {
  static const Choices choices = Choose();
  return choices[static_cast<size_t>(kind)];
}

}  // namespace liger::kernels
