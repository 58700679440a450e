#include "kernels/matmul_int2xint8/matmul_int2xint8.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/path_of.h"
#include "kernels/matmul_int2xint8/matmul_int2xint8_launch.h"
#include "kernels/matmul_int2xint8/matmul_int2xint8_rows.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "matmul_int2xint8";
// Columns of a CPU task, whose sums stay in the first cache.
constexpr int64_t kColumns = 1024;

void CheckPacked(const char* op, const at::Tensor& packed) {
  const Arg arg{op, "packed", packed};
  CheckDim(arg, 2);
  CheckDtype(arg, at::kByte);
}

void Check(const at::Tensor& x, const at::Tensor& packed) {
  const Arg x_arg{kOp, "x", x}, packed_arg{kOp, "packed", packed};
  CheckPacked(kOp, packed);
  CheckDim(x_arg, 2);
  CheckDtype(x_arg, at::kChar);
  CheckSameDevice(x_arg, packed_arg);
  CheckShape(x_arg, {x.sym_size(0), packed.sym_size(0) * 4}, "[M, 4 R]");
  TORCH_CHECK_VALUE(x.sym_size(1) < (int64_t{1} << 23), kOp, ": x has shape ", x.sym_sizes(),
                    ", expected K below 2^23, beyond which sums leave int32");
}

at::Tensor RunCpu(const at::Tensor& x, const at::Tensor& packed) {
  const int64_t M = x.size(0), R = packed.size(0), N = packed.size(1);
  const at::Tensor y = at::empty({M, N}, x.options().dtype(at::kInt));
  const int8_t* px = Data<int8_t>(x);
  const uint8_t* pw = Data<uint8_t>(packed);
  int32_t* py = MutableData<int32_t>(y);
  const int64_t blocks = (N + kColumns - 1) / kColumns;
  at::parallel_for(0, M * blocks, RowGrain(R * kColumns), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t m = task / blocks, first = task % blocks * kColumns;
      MatmulInt2xInt8Row(px + m * 4 * R, pw + first, R, N, std::min(kColumns, N - first),
                         py + m * N + first);
    }
  });
  return y;
}

at::Tensor RunCuda(const at::Tensor& x, const at::Tensor& packed) {
  const cuda::Scope scope(x);
  const at::Tensor y = at::empty({x.size(0), packed.size(1)}, x.options().dtype(at::kInt));
  cuda::CheckLaunch(
      kOp, cuda::MatmulInt2xInt8(scope.queue(), x.size(0), packed.size(0), packed.size(1),
                                 Data<int8_t>(x), Data<uint8_t>(packed), MutableData<int32_t>(y)));
  return y;
}

at::Tensor Forward(const at::Tensor& x_in, const at::Tensor& packed_in) {
  Check(x_in, packed_in);
  const Path path = IntegerPathOf(x_in.device());
  RecordPath(Op::kMatmulInt2xInt8, path);
  const at::Tensor x = x_in.contiguous(), packed = packed_in.contiguous();
  if constexpr (kHasCuda) {
    if (path == Path::kCuda) return RunCuda(x, packed);
  }
  if (path == Path::kCpu) return RunCpu(x, packed);
  return at::mm(x.to(at::kDouble), UnpackInt2(packed).to(at::kDouble)).to(at::kInt);
}

at::Tensor ForwardMeta(const at::Tensor& x, const at::Tensor& packed) {
  Check(x, packed);
  return at::empty_symint({x.sym_size(0), packed.sym_size(1)}, x.options().dtype(at::kInt));
}

void CheckUnpacked(const at::Tensor& weight) {
  const Arg arg{"pack_int2", "weight", weight};
  CheckDim(arg, 2);
  CheckDtype(arg, at::kChar);
  TORCH_CHECK_VALUE(weight.sym_size(0) % 4 == 0, "pack_int2: weight has shape ", weight.sym_sizes(),
                    ", expected a multiple of 4 rows");
}

at::Tensor Pack(const at::Tensor& weight) {
  CheckUnpacked(weight);
  if (weight.device().is_cpu()) {
    const at::Tensor bad = at::nonzero((weight < -1).logical_or_(weight > 2));
    TORCH_CHECK_VALUE(bad.size(0) == 0, "pack_int2: weight has ",
                      weight[bad[0][0].item<int64_t>()][bad[0][1].item<int64_t>()].item<int>(),
                      " at row ", bad[0][0].item<int64_t>(), ", column ", bad[0][1].item<int64_t>(),
                      ", expected -1, 0 or 1");
  }
  const int64_t R = weight.size(0) / 4;
  const at::Tensor codes = weight.add(1).to(at::kByte);
  at::Tensor packed = codes.narrow(0, 0, R).contiguous();
  for (int64_t i = 1; i < 4; ++i) packed = packed + codes.narrow(0, i * R, R) * (1 << (2 * i));
  return packed.to(at::kByte);
}

at::Tensor PackMeta(const at::Tensor& weight) {
  CheckUnpacked(weight);
  return at::empty_symint({weight.sym_size(0) / 4, weight.sym_size(1)},
                          weight.options().dtype(at::kByte));
}

at::Tensor Unpack(const at::Tensor& packed) {
  CheckPacked("unpack_int2", packed);
  std::vector<at::Tensor> quarters;
  for (int64_t i = 0; i < 4; ++i) {
    quarters.push_back(packed.bitwise_right_shift(2 * i).bitwise_and(3).to(at::kChar).sub(1));
  }
  return at::cat(quarters);
}

at::Tensor UnpackMeta(const at::Tensor& packed) {
  CheckPacked("unpack_int2", packed);
  return at::empty_symint({packed.sym_size(0) * 4, packed.sym_size(1)},
                          packed.options().dtype(at::kChar));
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def("matmul_int2xint8(Tensor x, Tensor packed) -> Tensor", tags);
  m.def("pack_int2(Tensor weight) -> Tensor", tags);
  m.def("unpack_int2(Tensor packed) -> Tensor", tags);
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("matmul_int2xint8", Forward);
  m.impl("pack_int2", Pack);
  m.impl("unpack_int2", Unpack);
}
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("matmul_int2xint8", ForwardMeta);
  m.impl("pack_int2", PackMeta);
  m.impl("unpack_int2", UnpackMeta);
}

}  // namespace

at::Tensor MatmulInt2xInt8(const at::Tensor& x, const at::Tensor& packed) {
  static const auto op = FindOp<decltype(Forward)>("liger::matmul_int2xint8");
  return op.call(x, packed);
}

at::Tensor PackInt2(const at::Tensor& weight) {
  static const auto op = FindOp<decltype(Pack)>("liger::pack_int2");
  return op.call(weight);
}

at::Tensor UnpackInt2(const at::Tensor& packed) {
  static const auto op = FindOp<decltype(Unpack)>("liger::unpack_int2");
  return op.call(packed);
}

}  // namespace liger::kernels
