#include "kernels/path.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <iterator>

#include "kernels/common/path_of.h"

namespace liger::kernels {
namespace {

constexpr size_t kNumPaths = 5;
constexpr std::string_view kPathNames[kNumPaths] = {"cpu", "cuda", "aten", "baseline", "amx_split"};

// Of each op, a bit for each path.
std::array<std::atomic<uint8_t>, std::size(kOpNames)> g_ran{};
static_assert(kNumPaths <= 8);

uint8_t Bit(size_t path) { return static_cast<uint8_t>(1u << path); }

}  // namespace

void RecordPath(Op op, Path path) {
  auto& ran = g_ran[static_cast<size_t>(op)];
  const uint8_t bit = Bit(static_cast<size_t>(path));
  if (!(ran.load(std::memory_order_relaxed) & bit)) ran.fetch_or(bit, std::memory_order_relaxed);
}

std::string_view PathName(Path path) { return kPathNames[static_cast<size_t>(path)]; }

std::vector<PathRan> PathsRan() {
  std::vector<PathRan> out;
  for (size_t op = 0; op < std::size(kOpNames); ++op) {
    const uint8_t ran = g_ran[op].load(std::memory_order_relaxed);
    for (size_t path = 0; path < kNumPaths; ++path) {
      if (ran & Bit(path)) out.push_back({kOpNames[op], static_cast<Path>(path)});
    }
  }
  return out;
}

void ClearPathsRan() {
  for (auto& ran : g_ran) ran.store(0, std::memory_order_relaxed);
}

Path PathFor(std::string_view op, c10::Device device, c10::ScalarType dtype) {
  TORCH_CHECK(std::ranges::find(kOpNames, op) != std::end(kOpNames), "PathFor: no op named '", op,
              "'");

  // cuBLAS is PyTorch's.
  if (op == "linear") return device.is_cpu() && dtype == c10::kFloat ? Path::kCpu : Path::kAten;
  // All backends are PyTorch's kernels.
  if (op == "attention") return Path::kAten;
  if (op == "matmul_int2xint8") return IntegerPathOf(device);
  return PathOf(device, dtype);
}

}  // namespace liger::kernels
