#ifndef LIGER_KERNELS_PATH_H_
#define LIGER_KERNELS_PATH_H_

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string_view>
#include <vector>

namespace liger::kernels {

// Which implementation of an op ran, as Ready.kernels_ran reports it.
enum class Path {
  kCpu,       // our vectorised CPU loops
  kCuda,      // our CUDA kernels
  kAten,      // our composition of PyTorch ops (float64, float16 on a CPU, builds without CUDA)
  kBaseline,  // the unfused twin
  kAmxSplit,  // of linear and the heads' products: split_gemm's, float32 out of bfloat16 tiles
};

// "cpu", "cuda", "aten", "baseline", "amx_split".
std::string_view PathName(Path path);

struct PathRan {
  std::string_view op;  // "rms_norm", "rope", ...; static storage
  Path path;
  bool operator==(const PathRan&) const = default;
};

// Every (op, path) that ran in this process since the start or the last
// ClearPathsRan, in the order of the op table. A process whose rope fell back to ATen
// for some inputs has two entries for rope. Thread-safe, lock-free.
std::vector<PathRan> PathsRan();
void ClearPathsRan();

// Which path a LIGER op takes for tensors of this device and dtype, without
// running it. `op` is one of the names below; another one throws c10::Error. Of linear's float32
// products on a CPU the large ones may take kAmxSplit instead of kCpu: CpuGemm says whether.
Path PathFor(std::string_view op, c10::Device device, c10::ScalarType dtype);

inline constexpr std::string_view kOpNames[] = {
    "linear",
    "rms_norm",
    "rope",
    "swiglu",
    "cross_entropy",
    "fused_linear_cross_entropy",
    "fused_linear_logprob",
    "geglu",
    "fused_add_rms_norm",
    "layer_norm",
    "embedding",
    "kl_div",
    "jsd",
    "tvd",
    "attention",
    "group_norm",
    "fused_linear_jsd",
    "softmax",
    "dyt",
    "matmul_int2xint8",
};

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_PATH_H_
