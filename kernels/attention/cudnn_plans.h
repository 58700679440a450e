#ifndef LIGER_KERNELS_ATTENTION_CUDNN_PLANS_H_
#define LIGER_KERNELS_ATTENTION_CUDNN_PLANS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

// cuDNN's attention over ragged batches, behind an interface without torch's and cuDNN's headers.
// A plan takes tens of milliseconds to build, so plans are made for rounded-up sizes and kept.
namespace liger::kernels::cudnn {

// What a plan is built for. Sizes are upper bounds: a batch may have fewer and shorter
// sequences (of length 0 behind the last one).
struct PlanKey {
  int device = 0;
  bool is_bf16 = true;  // else float16
  bool is_backward = false;
  // The last query of a sequence stands at its last key; else the first at its first.
  bool aligns_last = false;
  int64_t heads = 0, key_heads = 0, head_dim = 0;
  int64_t batch = 0, length = 0;  // sequences, and tokens of the longest
  int64_t total = 0;              // tokens of all
  int64_t window = 0;             // keys that a query sees; 0: all
  double scale = 1;

  auto operator<=>(const PlanKey&) const = default;
};

// The tensors of a call by name: query, key, value, out, their gradients and stats (float32
// log-sum-exp) are packed [tokens, heads, H] and [tokens, heads]; lengths are int32 [batch],
// starts int32 [batch + 1] in elements of the tensor that they are of.
enum Tensor : int64_t {
  kQuery = 1,
  kKey,
  kValue,
  kOut,
  kStats,
  kGradOut,
  kGradQuery,
  kGradKey,
  kGradValue,
  kQueryLengths,
  kKeyLengths,
  kQueryStarts,
  kKeyStarts,
  kStatsStarts,
};
using Pointers = std::unordered_map<int64_t, void*>;

class Plan {
 public:
  virtual ~Plan() = default;
  virtual int64_t workspace_bytes() const = 0;
  // On `stream` of the plan's device, which is current. `workspace` is aligned to 16 bytes. Throws
  // std::runtime_error with cuDNN's words.
  virtual void Run(Pointers pointers, void* workspace, void* stream) const = 0;
};

// Whether the process has cuDNN and the device is of compute capability 9.0 or above. A build
// without cuDNN's frontend says no.
bool Available(int device);

struct PlanOrError {
  std::shared_ptr<const Plan> plan;  // null: cuDNN has none
  std::string error;                 // its words then
};
// Asked of cuDNN at the first call with a key, then remembered; thread-safe. Tests see it, too.
[[gnu::visibility("default")]] const PlanOrError& PlanFor(const PlanKey& key);

}  // namespace liger::kernels::cudnn

#endif  // LIGER_KERNELS_ATTENTION_CUDNN_PLANS_H_
