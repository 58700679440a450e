#ifndef LIGER_KERNELS_COMMON_LAUNCH_H_
#define LIGER_KERNELS_COMMON_LAUNCH_H_

#include <cstdint>

// What launchers in .cu files and their callers share; no torch and no CUDA headers.
namespace liger::kernels::cuda {

enum class Dtype { kFloat, kHalf, kBfloat16 };

// Rows of H contiguous elements, and a weight of H elements.
struct RowsShape {
  Dtype dtype;         // of the rows
  Dtype weight_dtype;  // the same, or kFloat
  int64_t rows, H;
};

// Where to launch: a cudaStream_t of the current device.
struct Queue {
  void* stream;
  int num_sms;  // of that device
};

// A cudaError_t; 0 is success. Launchers return the launch's own error: what goes wrong
// inside the kernel comes with a later call, as everywhere in CUDA.
using Error = int;
const char* ErrorName(Error error);

// Number of multiprocessors of the current device; 0 when there is none.
int CountSms();

// Whether there is code for this device: compute capability 8.0 or above.
bool HasCodeFor(int device);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_LAUNCH_H_
