// How close each op comes to what this GPU can do: a row an op and shape, against a device copy
// and a matrix product measured in the same process.
//
//   kernel_bench [--filter TEXT] [--json FILE]
//
// Memory-bound ops: bytes each must move (every input read once, every output written once) over
// time, as a fraction of the copy's rate. Linear heads: time over the time of their own matrix
// products through cuBLAS at the same chunks. Times are of CUDA events over repeats, p20/p50/p80.
#include <ATen/ATen.h>
#include <dlfcn.h>

#include <cstdio>
#include <string>

#include "tests/bench/kernel_bench/bench.h"

namespace liger::kernels {
namespace {

int Main(int argc, char** argv) {
  std::string filter, json;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (i + 1 < argc && argument == "--filter") {
      filter = argv[++i];
    } else if (i + 1 < argc && argument == "--json") {
      json = argv[++i];
    } else {
      std::fprintf(stderr, "usage: kernel_bench [--filter TEXT] [--json FILE]\n");
      return 3;
    }
  }
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr || !at::hasCUDA()) {
    std::fprintf(stderr, "kernel_bench: no CUDA here\n");
    return 3;
  }
  at::manual_seed(1);
  bench::Bench bench(filter);
  bench::RowWise(bench);
  bench::Losses(bench);
  bench::Optimizer(bench);
  bench::Heads(bench);
  bench::Attentions(bench);
  bench::Int2Products(bench);
  if (!json.empty()) bench.WriteJson(json);
  return 0;
}

}  // namespace
}  // namespace liger::kernels

int main(int argc, char** argv) { return liger::kernels::Main(argc, argv); }
