#include "kernels/path.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iterator>

#include "kernels/common/path_of.h"

namespace liger::kernels {
namespace {

constexpr size_t kNumPaths = 4;
constexpr std::string_view kPathNames[kNumPaths] = {"cpu", "cuda", "aten", "baseline"};

// Bit op * kNumPaths + path.
std::atomic<uint32_t> g_ran{0};
static_assert(std::size(kOpNames) * kNumPaths <= 32);

uint32_t Bit(size_t op, size_t path) { return uint32_t{1} << (op * kNumPaths + path); }

}  // namespace

void RecordPath(Op op, Path path) {
  const uint32_t bit = Bit(static_cast<size_t>(op), static_cast<size_t>(path));
  if (!(g_ran.load(std::memory_order_relaxed) & bit)) {
    g_ran.fetch_or(bit, std::memory_order_relaxed);
  }
}

std::string_view PathName(Path path) { return kPathNames[static_cast<size_t>(path)]; }

std::vector<PathRan> PathsRan() {
  const uint32_t ran = g_ran.load(std::memory_order_relaxed);
  std::vector<PathRan> out;
  for (size_t op = 0; op < std::size(kOpNames); ++op) {
    for (size_t path = 0; path < kNumPaths; ++path) {
      if (ran & Bit(op, path)) out.push_back({kOpNames[op], static_cast<Path>(path)});
    }
  }
  return out;
}

void ClearPathsRan() { g_ran.store(0, std::memory_order_relaxed); }

Path PathFor(std::string_view op, c10::Device device, c10::ScalarType dtype) {
  TORCH_CHECK(std::ranges::find(kOpNames, op) != std::end(kOpNames), "PathFor: no op named '", op,
              "'");

  // cuBLAS is PyTorch's.
  if (op == "linear") return device.is_cpu() && dtype == c10::kFloat ? Path::kCpu : Path::kAten;
  return PathOf(device, dtype);
}

}  // namespace liger::kernels
