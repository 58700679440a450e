#include "kernels/embedding/embedding_impl.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/embedding/embedding_launch.h"
#include "kernels/embedding/embedding_rows.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "embedding";

std::vector<int64_t> OutputShape(const at::Tensor& ids, const at::Tensor& weight) {
  std::vector<int64_t> shape = ids.sizes().vec();
  shape.push_back(weight.size(1));
  return shape;
}

void CheckRange(const at::Tensor& ids, int64_t V) {
  const auto* id = Data<int64_t>(ids);
  for (int64_t t = 0; t < ids.numel(); ++t) {
    TORCH_CHECK_INDEX(id[t] >= 0 && id[t] < V, kOp, ": ids has ", id[t], " at position ", t,
                      ", expected a value in [0, ", V, ") (its shape is ", ids.sizes(), ")");
  }
}

// The positions of each id in ascending order, as the rows of the gradient take them: id v's are
// order[starts[v]] to order[starts[v + 1]].
struct Positions {
  std::vector<int64_t> starts, order;
};

// Counting sort, which is stable; the padding's positions are left out.
Positions PositionsOf(const at::Tensor& ids, int64_t V, int64_t padding_idx) {
  const auto* id = Data<int64_t>(ids);
  Positions out{.starts = std::vector<int64_t>(static_cast<size_t>(V + 1)), .order = {}};
  for (int64_t t = 0; t < ids.numel(); ++t) {
    if (id[t] != padding_idx) ++out.starts[static_cast<size_t>(id[t] + 1)];
  }
  for (size_t v = 0; v < static_cast<size_t>(V); ++v) out.starts[v + 1] += out.starts[v];
  out.order.resize(static_cast<size_t>(out.starts.back()));
  std::vector<int64_t> next(out.starts.begin(), out.starts.end() - 1);
  for (int64_t t = 0; t < ids.numel(); ++t) {
    if (id[t] == padding_idx) continue;
    out.order[static_cast<size_t>(next[static_cast<size_t>(id[t])]++)] = t;
  }
  return out;
}

at::Tensor ForwardCpu(const at::Tensor& ids_in, const at::Tensor& weight_in) {
  const at::Tensor ids = ids_in.contiguous(), weight = weight_in.contiguous();
  at::Tensor y = at::empty(OutputShape(ids, weight), weight.options());
  const int64_t H = weight.size(1);
  DispatchCpuDtype(weight.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const auto* id = Data<int64_t>(ids);
    const T* pw = Data<T>(weight);
    T* py = MutableData<T>(y);
    at::parallel_for(0, ids.numel(), RowGrain(H), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) std::copy_n(pw + id[r] * H, H, py + r * H);
    });
  });
  return y;
}

at::Tensor BackwardCpu(const at::Tensor& dy_in, const at::Tensor& ids, int64_t V,
                       int64_t padding_idx) {
  const at::Tensor dy = dy_in.contiguous();
  const int64_t H = dy.size(-1);
  const Positions positions = PositionsOf(ids.contiguous(), V, padding_idx);
  at::Tensor dweight = at::empty({V, H}, dy.options());
  DispatchCpuDtype(dy.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* pdy = Data<T>(dy);
    T* pdw = MutableData<T>(dweight);
    at::parallel_for(0, V, RowGrain(H), [&](int64_t begin, int64_t end) {
      std::vector<float> sum(static_cast<size_t>(H));
      for (int64_t v = begin; v < end; ++v) {
        const int64_t first = positions.starts[static_cast<size_t>(v)];
        const int64_t last = positions.starts[static_cast<size_t>(v + 1)];
        SumRows(pdy, positions.order.data() + first, last - first, H, sum.data(), pdw + v * H);
      }
    });
  });
  return dweight;
}

at::Tensor ForwardCuda(const at::Tensor& ids_in, const at::Tensor& weight_in) {
  const cuda::Scope scope(weight_in);
  const at::Tensor ids = ids_in.contiguous(), weight = weight_in.contiguous();
  at::Tensor y = at::empty(OutputShape(ids, weight), weight.options());
  cuda::CheckLaunch(kOp, cuda::EmbeddingForward(scope.queue(), cuda::DtypeOf(weight), ids.numel(),
                                                weight.size(0), weight.size(1), Data<int64_t>(ids),
                                                weight.const_data_ptr(), y.mutable_data_ptr()));
  return y;
}

at::Tensor BackwardCuda(const at::Tensor& dy_in, const at::Tensor& ids_in, int64_t V,
                        int64_t padding_idx) {
  const cuda::Scope scope(dy_in);
  const at::Tensor dy = dy_in.contiguous(), ids = ids_in.contiguous();
  const int64_t T = ids.numel(), H = dy.size(-1);
  TORCH_CHECK(V < std::numeric_limits<int32_t>::max(), kOp, ": weight has shape [", V, ", ", H,
              "], expected fewer than 2^31 - 1 rows");
  const auto int32 = ids.options().dtype(at::kInt);
  at::Tensor dweight = at::empty({V, H}, dy.options());
  if (T <= cuda::kMostScannedIds) {
    const at::Tensor keys = at::empty({cuda::EmbeddingScanKeys(T)}, int32);
    const at::Tensor occurrences = at::empty({2, V}, int32);
    cuda::CheckLaunch(
        kOp, cuda::EmbeddingScanBackward(
                 scope.queue(), cuda::DtypeOf(dy), T, V, H, padding_idx, Data<int64_t>(ids),
                 dy.const_data_ptr(), MutableData<int32_t>(keys), MutableData<int32_t>(occurrences),
                 dweight.mutable_data_ptr()));
    return dweight;
  }
  const at::Tensor keys = at::empty({T}, int32);
  cuda::CheckLaunch(kOp, cuda::EmbeddingKeys(scope.queue(), T, V, padding_idx, Data<int64_t>(ids),
                                             MutableData<int32_t>(keys)));
  const auto [sorted, order] = at::sort(keys, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor starts = at::empty({V + 1}, ids.options());
  cuda::CheckLaunch(
      kOp, cuda::EmbeddingBackward(scope.queue(), cuda::DtypeOf(dy), T, V, H,
                                   dy.const_data_ptr(), Data<int32_t>(sorted), Data<int64_t>(order),
                                   MutableData<int64_t>(starts), dweight.mutable_data_ptr()));
  return dweight;
}

// Marks, on a GPU that has no kernels of ours, ids that must not be read.
at::Tensor IsOutside(const at::Tensor& ids, int64_t V) {
  return ids.lt(0).logical_or_(ids.ge(V)).unsqueeze(-1);
}

at::Tensor ForwardAten(const at::Tensor& ids, const at::Tensor& weight) {
  const int64_t V = weight.size(0);
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (V == 0) return at::full(OutputShape(ids, weight), kNan, weight.options());
  return at::embedding(weight, ids.clamp(0, V - 1))
      .masked_fill(IsOutside(ids, V), kNan)
      .contiguous();
}

at::Tensor BackwardAten(const at::Tensor& dy, const at::Tensor& ids, int64_t V,
                        int64_t padding_idx) {
  if (V == 0) return at::empty({V, dy.size(-1)}, dy.options());
  return at::embedding_dense_backward(dy.to(ComputeDtype(dy)).masked_fill(IsOutside(ids, V), 0),
                                      ids.clamp(0, V - 1), V, padding_idx,
                                      /*scale_grad_by_freq=*/false)
      .to(dy.scalar_type());
}

}  // namespace

at::Tensor EmbeddingForward(const at::Tensor& ids, const at::Tensor& weight) {
  if (ids.device().is_cpu()) CheckRange(ids.contiguous(), weight.size(0));
  if (HasCpuLoops(weight)) return ForwardCpu(ids, weight);
  if constexpr (kHasCuda) {
    if (HasCudaKernels(weight)) return ForwardCuda(ids, weight);
  }
  return ForwardAten(ids, weight);
}

at::Tensor EmbeddingBackward(const at::Tensor& dy, const at::Tensor& ids, int64_t V,
                             int64_t padding_idx) {
  if (ids.device().is_cpu()) CheckRange(ids.contiguous(), V);
  if (HasCpuLoops(dy)) return BackwardCpu(dy, ids, V, padding_idx);
  if constexpr (kHasCuda) {
    if (HasCudaKernels(dy)) return BackwardCuda(dy, ids, V, padding_idx);
  }
  return BackwardAten(dy, ids, V, padding_idx);
}

}  // namespace liger::kernels
