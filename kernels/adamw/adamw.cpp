#include "kernels/adamw/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "kernels/adamw/adamw_launch.h"
#include "kernels/adamw/adamw_rows.h"
#include "kernels/common/autograd.h"
#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "adamw";
constexpr int64_t kGrain = int64_t{1} << 15;

// The op's arguments.
struct Call {
  at::TensorList params, grads, exp_avgs, exp_avg_sqs, computes;
  at::ArrayRef<double> weight_decays;
  at::IntArrayRef streams;
  AdamWStepOptions options;

  at::Tensor compute(size_t i) const {
    return i < computes.size() && computes[i].sym_numel() > 0 ? computes[i] : at::Tensor();
  }
  float decay(size_t i) const {
    return static_cast<float>(1 - options.learning_rate * weight_decays[i]);
  }
  uint64_t stream(size_t i) const {
    return streams.empty() ? i : std::bit_cast<uint64_t>(streams[i]);
  }
};

bool IsOurs(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf;
}

void Check(const char* name, const at::Tensor& t, const at::Tensor& param) {
  TORCH_CHECK_VALUE(IsOurs(t.scalar_type()) && t.device() == param.device() && t.is_contiguous() &&
                        t.sym_sizes() == param.sym_sizes(),
                    kOp, ": ", name, " of shape ", t.sym_sizes(), ", ", t.scalar_type(), " on ",
                    t.device(), t.is_contiguous() ? "" : ", not contiguous,",
                    " does not fit the parameter of shape ", param.sym_sizes(), " on ",
                    param.device(), ": expected the same shape and device, contiguous, float32, ",
                    "float16 or bfloat16");
}

void CheckLength(const char* name, size_t size, size_t expected, bool may_be_empty) {
  TORCH_CHECK_VALUE(size == expected || (may_be_empty && size == 0), kOp, ": ", name, " has ", size,
                    " entries, params ", expected);
}

void CheckNotNegative(const char* name, double value) {
  TORCH_CHECK_VALUE(std::isfinite(value) && value >= 0, kOp, ": ", name, " is ", value,
                    ", expected 0 or more");
}

void Check(const Call& call) {
  const size_t n = call.params.size();
  CheckLength("grads", call.grads.size(), n, false);
  CheckLength("exp_avgs", call.exp_avgs.size(), n, false);
  CheckLength("exp_avg_sqs", call.exp_avg_sqs.size(), n, false);
  CheckLength("weight_decays", call.weight_decays.size(), n, false);
  CheckLength("computes", call.computes.size(), n, true);
  CheckLength("streams", call.streams.size(), n, true);
  const AdamWStepOptions& o = call.options;
  TORCH_CHECK_VALUE(o.step >= 1, kOp, ": step is ", o.step, ", expected 1 or more");
  for (const auto& [name, beta] : {std::pair("beta1", o.beta1), std::pair("beta2", o.beta2)}) {
    TORCH_CHECK_VALUE(beta >= 0 && beta < 1, kOp, ": ", name, " is ", beta,
                      ", expected a value in [0, 1)");
  }
  CheckNotNegative("lr", o.learning_rate);
  CheckNotNegative("eps", o.epsilon);
  for (size_t i = 0; i < n; ++i) {
    const at::Tensor& param = call.params[i];
    TORCH_CHECK_VALUE(param.device() == call.params[0].device(), kOp, ": params are on ",
                      call.params[0].device(), " and ", param.device(), ", expected one device");
    CheckNotNegative("weight_decay", call.weight_decays[i]);
    Check("param", param, param);
    Check("grad", call.grads[i], param);
    Check("exp_avg", call.exp_avgs[i], param);
    Check("exp_avg_sq", call.exp_avg_sqs[i], param);
    TORCH_CHECK_VALUE(call.exp_avgs[i].scalar_type() == call.exp_avg_sqs[i].scalar_type(), kOp,
                      ": exp_avg is ", call.exp_avgs[i].scalar_type(), " and exp_avg_sq ",
                      call.exp_avg_sqs[i].scalar_type(), ", expected one dtype");
    if (const at::Tensor compute = call.compute(i); compute.defined()) {
      Check("compute", compute, param);
    }
  }
  const at::Tensor& scale = call.options.grad_scale;
  TORCH_CHECK_VALUE(!scale.defined() || n == 0 ||
                        (scale.sym_numel() == 1 && scale.scalar_type() == at::kFloat &&
                         scale.device() == call.params[0].device()),
                    kOp, ": grad_scale of shape ", scale.sym_sizes(), ", ", scale.scalar_type(),
                    " on ", scale.device(),
                    ", expected one float32 number on the parameters' device");
}

void CheckCpuDtype(const char* name, const at::Tensor& t) {
  TORCH_CHECK_VALUE(HasCpuLoops(t), kOp, ": ", name, " of shape ", t.sizes(), " is ",
                    t.scalar_type(), ", expected float32 or bfloat16 on a CPU");
}

// All of them before the first is updated.
void CheckCpuDtypes(const Call& call) {
  for (size_t i = 0; i < call.params.size(); ++i) {
    CheckCpuDtype("param", call.params[i]);
    CheckCpuDtype("grad", call.grads[i]);
    CheckCpuDtype("exp_avg", call.exp_avgs[i]);
    if (const at::Tensor compute = call.compute(i); compute.defined()) {
      CheckCpuDtype("compute", compute);
    }
  }
}

void RunCpu(const Call& call, const AdamWScalars& scalars) {
  CheckCpuDtypes(call);
  const at::Tensor& scale = call.options.grad_scale;
  const float grad_scale = scale.defined() ? scale.item<float>() : 1.0f;
  if (!std::isfinite(grad_scale)) return;
  for (size_t i = 0; i < call.params.size(); ++i) {
    const at::Tensor compute = call.compute(i);
    const auto is_bf16 = [](const at::Tensor& t) { return t.scalar_type() == at::kBFloat16; };
    const AdamWRow row{.param = call.params[i].mutable_data_ptr(),
                       .compute = compute.defined() ? compute.mutable_data_ptr() : nullptr,
                       .grad = call.grads[i].const_data_ptr(),
                       .exp_avg = call.exp_avgs[i].mutable_data_ptr(),
                       .exp_avg_sq = call.exp_avg_sqs[i].mutable_data_ptr(),
                       .param_is_bf16 = is_bf16(call.params[i]),
                       // Without a copy as the parameter: the loops that are tuned are of one type.
                       .compute_is_bf16 = is_bf16(compute.defined() ? compute : call.params[i]),
                       .grad_is_bf16 = is_bf16(call.grads[i]),
                       .state_is_bf16 = is_bf16(call.exp_avgs[i]),
                       .decay = call.decay(i),
                       .stream = call.stream(i)};
    at::parallel_for(0, call.params[i].numel(), kGrain, [&](int64_t begin, int64_t end) {
      AdamWRows(row, scalars, grad_scale, call.options.stochastic, begin, end);
    });
  }
}

cuda::AdamWTensor Describe(const Call& call, size_t i, int64_t first_chunk) {
  const at::Tensor compute = call.compute(i);
  return {.param = call.params[i].mutable_data_ptr(),
          .compute = compute.defined() ? compute.mutable_data_ptr() : nullptr,
          .grad = call.grads[i].const_data_ptr(),
          .exp_avg = call.exp_avgs[i].mutable_data_ptr(),
          .exp_avg_sq = call.exp_avg_sqs[i].mutable_data_ptr(),
          .n = call.params[i].numel(),
          .first_chunk = first_chunk,
          .stream = call.stream(i),
          .decay = call.decay(i),
          .param_dtype = cuda::DtypeOf(call.params[i]),
          .compute_dtype = compute.defined() ? cuda::DtypeOf(compute) : cuda::Dtype::kFloat,
          .grad_dtype = cuda::DtypeOf(call.grads[i]),
          .state_dtype = cuda::DtypeOf(call.exp_avgs[i])};
}

void RunCuda(const Call& call, const AdamWScalars& scalars) {
  const cuda::Scope scope(call.params[0]);
  // Pinned: a large copy from other memory would wait for the stream's work. PyTorch's allocator
  // gives the memory to nobody else before the copy is done.
  at::Tensor table =
      at::empty({static_cast<int64_t>(call.params.size() * sizeof(cuda::AdamWTensor))},
                at::TensorOptions(at::kByte).pinned_memory(true));
  auto* entries = static_cast<cuda::AdamWTensor*>(table.mutable_data_ptr());
  int64_t chunks = 0;
  for (size_t i = 0; i < call.params.size(); ++i) {
    const cuda::AdamWTensor entry = Describe(call, i, chunks);
    std::memcpy(entries + i, &entry, sizeof(entry));
    chunks += (entry.n + cuda::kAdamWChunk - 1) / cuda::kAdamWChunk;
  }
  const at::Tensor on_device = table.to(call.params[0].device(), /*non_blocking=*/true);
  const at::Tensor& scale = call.options.grad_scale;
  cuda::CheckLaunch(
      kOp, cuda::AdamWStep(scope.queue(),
                           static_cast<const cuda::AdamWTensor*>(on_device.const_data_ptr()),
                           static_cast<int>(call.params.size()), chunks,
                           {.scalars = scalars,
                            .grad_scale = scale.defined() ? Data<float>(scale) : nullptr,
                            .stochastic = call.options.stochastic}));
}

void Run(const Call& call) {
  Check(call);
  if (call.params.empty()) return;
  const at::Tensor& first = call.params[0];
  TORCH_CHECK(HasAdamWStep(first), kOp, ": no kernel for ", first.scalar_type(), " parameters on ",
              first.device());
  const AdamWScalars scalars = ScalarsOf(call.options);
  if constexpr (kHasCuda) {
    if (first.is_cuda()) return RunCuda(call, scalars);
  }
  RunCpu(call, scalars);
}

template <auto kRun>
void Flat(at::TensorList params, at::TensorList grads, at::TensorList exp_avgs,
          at::TensorList exp_avg_sqs, at::TensorList computes, at::ArrayRef<double> weight_decays,
          int64_t step, double lr, double beta1, double beta2, double eps,
          const std::optional<at::Tensor>& grad_scale, at::IntArrayRef streams, bool stochastic) {
  kRun({params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        computes,
        weight_decays,
        streams,
        {lr, beta1, beta2, eps, step, grad_scale.value_or(at::Tensor()), stochastic}});
}

void RunMeta(const Call& call) { Check(call); }

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "adamw_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] exp_avgs, "
      "Tensor(c!)[] exp_avg_sqs, Tensor(d!)[] computes, float[] weight_decays, int step, "
      "float lr=1e-3, float beta1=0.9, float beta2=0.999, float eps=1e-8, "
      "Tensor? grad_scale=None, int[] streams=[], bool stochastic=False) -> ()",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) { m.impl("adamw_", Flat<Run>); }
TORCH_LIBRARY_IMPL(liger, Meta, m) { m.impl("adamw_", Flat<RunMeta>); }

}  // namespace

bool HasAdamWStep(const at::Tensor& param) { return HasCpuLoops(param) || HasCudaKernels(param); }

AdamWScalars ScalarsOf(const AdamWStepOptions& o) {
  const double bias1 = 1 - std::pow(o.beta1, static_cast<double>(o.step));
  const double bias2 = 1 - std::pow(o.beta2, static_cast<double>(o.step));
  return {.one_minus_beta1 = static_cast<float>(1 - o.beta1),
          .beta2 = static_cast<float>(o.beta2),
          .one_minus_beta2 = static_cast<float>(1 - o.beta2),
          .epsilon = static_cast<float>(o.epsilon),
          .step_size = static_cast<float>(o.learning_rate / bias1),
          .inv_sqrt_bias2 = static_cast<float>(1 / std::sqrt(bias2))};
}

void AdamWStep(const std::vector<AdamWParameter>& parameters, const AdamWStepOptions& o) {
  if (parameters.empty()) return;
  std::vector<at::Tensor> params, grads, exp_avgs, exp_avg_sqs, computes;
  std::vector<double> weight_decays;
  std::vector<int64_t> streams;
  for (const AdamWParameter& p : parameters) {
    params.push_back(p.param);
    grads.push_back(p.grad);
    exp_avgs.push_back(p.exp_avg);
    exp_avg_sqs.push_back(p.exp_avg_sq);
    computes.push_back(p.compute.defined() ? p.compute : at::empty({0}, p.param.options()));
    weight_decays.push_back(p.weight_decay);
    streams.push_back(std::bit_cast<int64_t>(p.stream));
  }
  static const auto op = FindOp<decltype(Flat<Run>)>("liger::adamw_");
  op.call(params, grads, exp_avgs, exp_avg_sqs, computes, weight_decays, o.step, o.learning_rate,
          o.beta1, o.beta2, o.epsilon,
          o.grad_scale.defined() ? std::optional(o.grad_scale) : std::nullopt, streams,
          o.stochastic);
}

}  // namespace liger::kernels
