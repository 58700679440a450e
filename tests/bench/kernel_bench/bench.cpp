#include "tests/bench/kernel_bench/bench.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <utility>

namespace liger::kernels::bench {
namespace {

// Before each run a buffer larger than the L2 cache is filled: nothing of the inputs is left
// in the cache, and the GPU is busy while the CPU enqueues the op.
Quantiles Time(const Fn& fn) {
  const c10::impl::VirtualGuardImpl impl(at::kCUDA);
  const c10::Stream stream = impl.getStream(kGpu);
  static at::Tensor* const filler =
      new at::Tensor(at::empty({int64_t{1} << 28}, at::TensorOptions(kGpu).dtype(at::kByte)));
  const auto once = [&] {
    filler->zero_();
    filler->zero_();
    c10::Event begin(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
    c10::Event end(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
    begin.record(stream);
    fn();
    end.record(stream);
    end.synchronize();
    return begin.elapsedTime(end);
  };
  fn();
  const double guess = std::max(1e-3, std::min({once(), once(), once()}));
  const int repeats = static_cast<int>(std::clamp(400.0 / guess, 7.0, 200.0));
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) times.push_back(once());
  std::sort(times.begin(), times.end());
  const auto at_share = [&](double p) {
    return times[static_cast<size_t>(p * static_cast<double>(times.size() - 1))];
  };
  return {at_share(0.2), at_share(0.5), at_share(0.8)};
}

int64_t PeakBytes(const Fn& fn) {
  at::accelerator::synchronizeDevice(0);
  at::accelerator::resetPeakStats(0);
  const auto current = [&] { return at::accelerator::getDeviceStats(0).allocated_bytes[0]; };
  const int64_t before = current().current;
  fn();
  at::accelerator::synchronizeDevice(0);
  return current().peak - before;
}

// Of what a command prints; "unknown" without any.
std::string FirstLineOf(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> out(popen((command + " 2>/dev/null").c_str(), "r"),
                                                  pclose);
  char line[256];
  if (out == nullptr || std::fgets(line, sizeof(line), out.get()) == nullptr) return "unknown";
  return std::string(line, std::strcspn(line, "\n"));
}

double ExtraMb(const Fn& fn) { return static_cast<double>(PeakBytes(fn)) / 1e6; }

}  // namespace

at::Tensor Randn(at::IntArrayRef shape, at::ScalarType dtype) {
  at::Tensor out = at::empty(shape, at::TensorOptions(kGpu).dtype(dtype));
  return out.normal_();
}

at::Tensor Targets(int64_t T, int64_t V) {
  return at::randint(V, {T}, at::TensorOptions(kGpu).dtype(at::kLong));
}

at::Tensor Leaf(at::Tensor t) { return t.requires_grad_(); }

void Grad(const at::Tensor& y, const std::vector<at::Tensor>& inputs, const at::Tensor& dy) {
  torch::autograd::grad({y}, inputs, {dy}, /*retain_graph=*/true);
}

Bench::Bench(std::string filter) : filter_(std::move(filter)) {
  const at::Tensor a = Randn({int64_t{1} << 29}), b = at::empty_like(a);
  copy_bytes_per_ms_ = 2.0 * static_cast<double>(a.nbytes()) / Time([&] { b.copy_(a); }).p50;
  const at::Tensor m = Randn({8192, 8192}), n = Randn({8192, 8192});
  at::Tensor out = at::empty_like(m);
  gemm_flops_per_ms_ = 2.0 * 8192 * 8192 * 8192 / Time([&] { at::mm_out(out, m, n); }).p50;
  std::printf("copy %.0f GB/s, bf16 GEMM %.0f TFLOP/s\n", copy_bytes_per_ms_ / 1e6,
              gemm_flops_per_ms_ / 1e9);
  std::printf("%-56s %9s %9s %9s  %-7s %9s\n", "op", "p20 ms", "p50 ms", "p80 ms", "of",
              "extra MB");
}

void Bench::Bytes(const std::string& name, double bytes, const Fn& fn) {
  if (Wants(name)) Add({name, Time(fn), bytes / copy_bytes_per_ms_, "copy", ExtraMb(fn)});
}

void Bench::Products(const std::string& name, const Fn& products, const Fn& fn) {
  if (Wants(name)) Add({name, Time(fn), Time(products).p50, "gemms", ExtraMb(fn)});
}

void Bench::Flops(const std::string& name, double flops, const Fn& fn) {
  if (Wants(name)) Add({name, Time(fn), flops / gemm_flops_per_ms_, "gemm rate", ExtraMb(fn)});
}

void Bench::Parts(const std::string& name, const std::vector<Part>& parts, const Fn& fn) {
  if (!Wants(name)) return;
  double sum = 0;
  for (const Part& part : parts) sum += Time(part.run).p50 / part.copies;
  Add({name, Time(fn), sum, "parts", ExtraMb(fn)});
}

void Bench::WriteJson(const std::string& path) const {
  std::ofstream out(path);
  const char* const commit = std::getenv("LIGER_COMMIT");
  out << "{\"commit\": \"" << (commit ? commit : FirstLineOf("git rev-parse --short HEAD"))
      << "\", \"gpu\": \"" << FirstLineOf("nvidia-smi --query-gpu=name --format=csv,noheader")
      << "\", \"driver\": \""
      << FirstLineOf("nvidia-smi --query-gpu=driver_version --format=csv,noheader")
      << "\", \"torch\": \"" << TORCH_VERSION << "\",\n\"copy_gb_s\": " << copy_bytes_per_ms_ / 1e6
      << ", \"gemm_tflops\": " << gemm_flops_per_ms_ / 1e9 << ", \"rows\": [";
  for (size_t i = 0; i < rows_.size(); ++i) {
    const Row& r = rows_[i];
    out << (i ? ",\n" : "\n") << "{\"op\": \"" << r.name << "\", \"p20_ms\": " << r.ms.p20
        << ", \"p50_ms\": " << r.ms.p50 << ", \"p80_ms\": " << r.ms.p80
        << ", \"ideal_ms\": " << r.ideal_ms << ", \"ceiling\": \"" << r.ceiling
        << "\", \"extra_mb\": " << r.extra_mb << "}";
  }
  out << "\n]}\n";
}

void Bench::Add(Row row) {
  // A fraction of the ceiling's rate, or a multiple of the products' time.
  const bool is_rate = row.ceiling != "gemms" && row.ceiling != "parts";
  const double ratio = is_rate ? row.ideal_ms / row.ms.p50 : row.ms.p50 / row.ideal_ms;
  std::printf("%-56s %9.4f %9.4f %9.4f  %5.3f%s %9.1f\n", row.name.c_str(), row.ms.p20,
              row.ms.p50, row.ms.p80, ratio, is_rate ? "  " : "x ", row.extra_mb);
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

}  // namespace liger::kernels::bench
