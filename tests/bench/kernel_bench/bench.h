#ifndef LIGER_TESTS_BENCH_KERNEL_BENCH_BENCH_H_
#define LIGER_TESTS_BENCH_KERNEL_BENCH_BENCH_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace liger::kernels::bench {

using Fn = std::function<void()>;

inline const at::Device kGpu(at::kCUDA, 0);

at::Tensor Randn(at::IntArrayRef shape, at::ScalarType dtype = at::kBFloat16);
// Classes of T tokens, int64.
at::Tensor Targets(int64_t T, int64_t V);
at::Tensor Leaf(at::Tensor t);
// Backward of y, which stays as it is.
void Grad(const at::Tensor& y, const std::vector<at::Tensor>& inputs, const at::Tensor& dy);

struct Quantiles {
  double p20, p50, p80;  // ms
};

// Times ops and prints a row of each.
class Bench {
 public:
  // `filter`: rows whose name does not contain it are left out. Measures the ceilings.
  explicit Bench(std::string filter);

  bool Wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  // Against a device copy of so many bytes.
  void Bytes(const std::string& name, double bytes, const Fn& fn);
  // Against these products, run in the same process.
  void Products(const std::string& name, const Fn& products, const Fn& fn);
  // At the GEMM's rate.
  void Flops(const std::string& name, double flops, const Fn& fn);
  // Against what its parts would take, each run `copies` times at once.
  struct Part {
    double copies;
    Fn run;
  };
  void Parts(const std::string& name, const std::vector<Part>& parts, const Fn& fn);

  // All rows, with the commit (LIGER_COMMIT, or that of the working folder), GPU and driver.
  void WriteJson(const std::string& path) const;

 private:
  struct Row {
    std::string name;
    Quantiles ms;
    double ideal_ms;  // at the ceiling
    std::string ceiling;
    double extra_mb;
  };

  void Add(Row row);

  std::string filter_;
  double copy_bytes_per_ms_ = 0, gemm_flops_per_ms_ = 0;
  std::vector<Row> rows_;
};

// The rows of each family of ops.
void RowWise(Bench& bench);
void Optimizer(Bench& bench);
void Losses(Bench& bench);
void Heads(Bench& bench);
void Attentions(Bench& bench);
void Int2Products(Bench& bench);

}  // namespace liger::kernels::bench

#endif  // LIGER_TESTS_BENCH_KERNEL_BENCH_BENCH_H_
