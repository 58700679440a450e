#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "kernels/common/autograd.h"
#include "kernels/linear/gemm_onednn.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/panel_gemm.h"
#include "kernels/linear/split_gemm.h"

namespace liger::kernels::gemm {
namespace {

// Rows of the weight that are taken at once when a product needs a temporary of them.
constexpr int64_t kBlock = 8192;

bool Uses(GemmLibrary library, const at::Tensor& a, const at::Tensor& b, GemmKind kind) {
  return a.is_cpu() && a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat &&
         a.numel() > 0 && b.numel() > 0 && CpuGemm(kind) == library;
}

bool UseOneDnn(const at::Tensor& a, const at::Tensor& b, GemmKind kind) {
  return Uses(GemmLibrary::kOneDnn, a, b, kind);
}

bool TakesPanels(const at::Tensor& a, const at::Tensor& b, GemmKind kind) {
  return WorthPacking(a.size(0), b.size(1), a.size(1)) && Uses(GemmLibrary::kAvx512, a, b, kind);
}

// c = a b or c += a b, if that is split_gemm's or panel_gemm's to compute.
bool Packed(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, GemmKind kind,
            bool accumulate) {
  if (c.scalar_type() != at::kFloat || c.stride(1) != 1) return false;
  if (TakesSplit(a, b, kind)) {
    SplitProduct(a, b, c, accumulate);
  } else if (TakesPanels(a, b, kind)) {
    PanelProduct(a, b, c, accumulate);
  } else {
    return false;
  }
  return true;
}

// a b as a new tensor; undefined if it is not.
at::Tensor Packed(const at::Tensor& a, const at::Tensor& b, GemmKind kind) {
  if (!TakesSplit(a, b, kind) && !TakesPanels(a, b, kind)) return {};
  at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  Packed(a, b, c, kind, /*accumulate=*/false);
  return c;
}

}  // namespace

bool TakesSplit(const at::Tensor& a, const at::Tensor& b, GemmKind kind) {
  return WorthSplitting(a.size(0), b.size(1), a.size(1)) &&
         Uses(GemmLibrary::kAmxSplit, a, b, kind);
}

at::Tensor XWt(const at::Tensor& x, const at::Tensor& w) {
  if (at::Tensor y = Packed(x, w.t(), GemmKind::kForward); y.defined()) return y;
  return UseOneDnn(x, w, GemmKind::kForward) ? OneDnnXWt(x, w) : at::mm(x, w.t());
}

void XWtOut(const at::Tensor& x, const at::Tensor& w, at::Tensor& y) {
  if (Packed(x, w.t(), y, GemmKind::kForward, /*accumulate=*/false)) return;
  if (UseOneDnn(x, w, GemmKind::kForward)) {
    y.copy_(OneDnnXWt(x, w));
  } else {
    at::mm_out(y, x, w.t());
  }
}

at::Tensor GW(const at::Tensor& g, const at::Tensor& w) {
  if (at::Tensor dx = Packed(g, w, GemmKind::kInputGrad); dx.defined()) return dx;
  return UseOneDnn(g, w, GemmKind::kInputGrad) ? OneDnnXWt(g, w.t()) : at::mm(g, w);
}

void GWOut(const at::Tensor& g, const at::Tensor& w, at::Tensor& dx, double alpha) {
  if (g.is_cpu() && dx.scalar_type() != w.scalar_type()) {
    // The weight in float32, some rows at a time.
    for (int64_t begin = 0; begin < w.size(0); begin += kBlock) {
      const int64_t rows = std::min(kBlock, w.size(0) - begin);
      at::addmm_out(dx, dx, g.narrow(1, begin, rows).to(dx.scalar_type()),
                    w.narrow(0, begin, rows).to(dx.scalar_type()), /*beta=*/begin == 0 ? 0 : 1,
                    alpha);
    }
  } else if (dx.scalar_type() != g.scalar_type()) {
    at::addmm_out(dx, dx, g, w, dx.scalar_type(), /*beta=*/0, alpha);
  } else if (alpha != 1) {
    at::addmm_out(dx, dx, g, w, /*beta=*/0, alpha);
  } else if (Packed(g, w, dx, GemmKind::kInputGrad, /*accumulate=*/false)) {
    return;
  } else if (UseOneDnn(g, w, GemmKind::kInputGrad)) {
    dx.copy_(OneDnnXWt(g, w.t()));
  } else {
    at::mm_out(dx, g, w);
  }
}

at::Tensor GtX(const at::Tensor& g, const at::Tensor& x) {
  if (at::Tensor dw = Packed(g.t(), x, GemmKind::kWeightGrad); dw.defined()) return dw;
  return UseOneDnn(g, x, GemmKind::kWeightGrad) ? OneDnnXWt(g.t(), x.t()) : at::mm(g.t(), x);
}

void AddGtX(const at::Tensor& g, const at::Tensor& x, at::Tensor& acc, double alpha,
            bool overwrite) {
  const int beta = overwrite ? 0 : 1;
  if (g.is_cuda() && g.scalar_type() == x.scalar_type()) {
    if (acc.scalar_type() == g.scalar_type()) {
      at::addmm_out(acc, acc, g.t(), x, beta, alpha);
    } else {
      // 16-bit factors, float32 sum: the product's own accumulator is added to.
      at::addmm_out(acc, acc, g.t(), x, acc.scalar_type(), beta, alpha);
    }
    return;
  }
  TORCH_INTERNAL_ASSERT(alpha == 1);
  if (Packed(g.t(), x, acc, GemmKind::kWeightGrad, /*accumulate=*/!overwrite)) return;
  if (UseOneDnn(g, x, GemmKind::kWeightGrad)) {
    const at::Tensor dw = OneDnnXWt(g.t(), x.t());
    overwrite ? acc.copy_(dw) : acc.add_(dw);
    return;
  }
  if (acc.scalar_type() == g.scalar_type() && g.scalar_type() == x.scalar_type()) {
    at::addmm_out(acc, acc, g.t(), x, beta);
    return;
  }
  for (int64_t begin = 0; begin < acc.size(0); begin += kBlock) {
    const int64_t rows = std::min(kBlock, acc.size(0) - begin);
    at::Tensor block = acc.narrow(0, begin, rows);
    const at::Tensor gt = g.narrow(1, begin, rows).t();
    at::addmm_out(block, block, gt.to(acc.scalar_type()), x.to(acc.scalar_type()), beta);
  }
}

}  // namespace liger::kernels::gemm
