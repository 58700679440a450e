#ifndef LIGER_KERNELS_REFERENCE_REFERENCE_H_
#define LIGER_KERNELS_REFERENCE_REFERENCE_H_

#include <ATen/core/Tensor.h>

#include <vector>

// Each op, forward and gradients, as plain loops over float64 written from its formula. For
// tests: slow, and sharing no code with what it judges. Tensors are contiguous float64 (int64
// for targets), shaped as the op's header says with leading dimensions flattened.
namespace liger::kernels::reference {

struct Result {
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> grads;  // of the differentiable inputs, in order
};

Result Linear(const at::Tensor& x_TK, const at::Tensor& weight_NK, const at::Tensor& bias_N,
              const at::Tensor& grad_TN);

Result RmsNorm(const at::Tensor& x_TH, const at::Tensor& weight_H, double eps, double offset,
               const at::Tensor& grad_TH);

Result Rope(const at::Tensor& q_TND, const at::Tensor& k_TKD, const at::Tensor& cos_TR,
            const at::Tensor& sin_TR, const at::Tensor& grad_q, const at::Tensor& grad_k,
            at::IntArrayRef mrope_section = {});

Result Swiglu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& grad);

// grad is the scalar upstream gradient.
Result CrossEntropy(const at::Tensor& logits_TV, const at::Tensor& target_T, double scale,
                    int64_t ignore_index, const at::Tensor& grad);

// outputs: logp, entropy, log_sum_sq, mean_logit, is_top1.
Result FusedLinearLogprob(const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                          const at::Tensor& target_T, const at::Tensor& bias_V,
                          int64_t ignore_index, const at::Tensor& grad_T);

// outputs: loss, entropy, is_top1.
Result FusedLinearCrossEntropy(const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                               const at::Tensor& target_T, const at::Tensor& bias_V, double scale,
                               int64_t ignore_index, const at::Tensor& grad);

// x int8 [M, 4 R], packed uint8 [R, N]; the output's integers as float64.
Result MatmulInt2xInt8(const at::Tensor& x_MK, const at::Tensor& packed_RN);

}  // namespace liger::kernels::reference

#endif  // LIGER_KERNELS_REFERENCE_REFERENCE_H_
