#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/layer_norm/layer_norm_impl.h"
#include "kernels/layer_norm/layer_norm_launch.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "layer_norm";

cuda::RowsShape ShapeOf(const at::Tensor& x, const at::Tensor& weight) {
  const int64_t H = x.size(-1);
  return {.dtype = cuda::DtypeOf(x),
          .weight_dtype = cuda::DtypeOf(weight),
          .rows = x.numel() / H,
          .H = H};
}

// A column's gradient and the scratch it is summed in; both null when it is not needed.
struct ColumnGrad {
  at::Tensor grad, scratch;
  ColumnGrad(bool need, const at::Tensor& weight, int64_t scratch_rows)
      : grad(at::empty({need ? weight.numel() : 0}, weight.options())),
        scratch(at::empty({need ? scratch_rows : 0, weight.numel()},
                          weight.options().dtype(at::kFloat))),
        need_(need) {}
  void* data() const { return need_ ? grad.mutable_data_ptr() : nullptr; }
  float* scratch_data() const { return need_ ? MutableData<float>(scratch) : nullptr; }

 private:
  bool need_;
};

}  // namespace

LayerNormForwardResult LayerNormForwardCuda(const at::Tensor& x_in, const at::Tensor& weight_in,
                                            const std::optional<at::Tensor>& bias_in, double eps) {
  const cuda::Scope scope(x_in);
  const at::Tensor x = x_in.contiguous(), weight = weight_in.contiguous();
  const at::Tensor bias = bias_in ? bias_in->contiguous() : at::Tensor();
  at::Tensor y = at::empty(x.sizes(), x.options());
  at::Tensor mean = at::empty(x.sizes().slice(0, static_cast<size_t>(x.dim() - 1)),
                              x.options().dtype(at::kFloat));
  at::Tensor rstd = at::empty(mean.sizes(), mean.options());
  cuda::CheckLaunch(kOp, cuda::LayerNormForward(scope.queue(), ShapeOf(x, weight),
                                                x.const_data_ptr(), weight.const_data_ptr(),
                                                bias_in ? bias.const_data_ptr() : nullptr, eps,
                                                y.mutable_data_ptr(), MutableData<float>(mean),
                                                MutableData<float>(rstd)));
  return {y, mean, rstd};
}

LayerNormBackwardResult LayerNormBackwardCuda(const at::Tensor& dy_in, const at::Tensor& x_in,
                                              const at::Tensor& weight_in,
                                              const at::Tensor& mean_in, const at::Tensor& rstd_in,
                                              LayerNormNeeds needs) {
  const cuda::Scope scope(x_in);
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous();
  const at::Tensor weight = weight_in.contiguous();
  const at::Tensor mean = mean_in.contiguous(), rstd = rstd_in.contiguous();
  const cuda::RowsShape shape = ShapeOf(x, weight);
  const int64_t scratch_rows = cuda::LayerNormScratchRows(scope.queue(), shape);
  at::Tensor dx = at::empty({0}, x.options());
  if (needs.dx) dx = at::empty(x.sizes(), x.options());
  const ColumnGrad dweight(needs.dweight, weight, scratch_rows);
  const ColumnGrad dbias(needs.dbias, weight, scratch_rows);
  cuda::CheckLaunch(
      kOp, cuda::LayerNormBackward(scope.queue(), shape, dy.const_data_ptr(), x.const_data_ptr(),
                                   weight.const_data_ptr(), Data<float>(mean), Data<float>(rstd),
                                   {.dx = needs.dx ? dx.mutable_data_ptr() : nullptr,
                                    .dweight = dweight.data(),
                                    .dbias = dbias.data(),
                                    .dweight_scratch = dweight.scratch_data(),
                                    .dbias_scratch = dbias.scratch_data()}));
  return {dx, dweight.grad, dbias.grad};
}

}  // namespace liger::kernels
