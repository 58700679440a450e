#ifndef LIGER_WORKER_TRAINER_MODELS_LORA_LAYER_H_
#define LIGER_WORKER_TRAINER_MODELS_LORA_LAYER_H_

#include <memory>

#include "worker/trainer/models/layers.h"

// Shape suffixes as in causal_lm.h; R is the adapter's rank here.
namespace liger::trainer {

struct LoraOptions {
  int64_t r = 16;
  double scale = 2;
  double dropout = 0;
  bool use_dora = false;
};

// Low-rank adaptation of a layer (Hu et al. 2021, arXiv:2106.09685), as PEFT:
//   y = W x + b + scale B A drop(x)
// and weight-decomposed (DoRA, Liu et al. 2024, arXiv:2402.09353), where m is
// trained and the norm of each row of W + scale B A has no gradient (its section
// 4.3):
//   y = m / |W + scale B A| * (W x + scale B A x) + b
// With dropout in training, DoRA's change of the base's product sees drop(x), the
// base's product itself x, as in PEFT. The norm is taken in fp32 whatever the
// compute dtype, m has the storage dtype.
class LoraLayer : public LinearAdapter {
 public:
  // Registers lora_A.weight [R, I], lora_B.weight [O, R] and, with DoRA,
  // lora_magnitude_vector [O] with the layer, of `dtype`, uninitialised, and sets
  // its adapter.
  static std::shared_ptr<LoraLayer> Attach(Linear& layer, const LoraOptions& options,
                                           at::ScalarType dtype);

  // A from U(-1/sqrt(I), 1/sqrt(I)) (Kaiming with a = sqrt(5)), B of zeros and, with
  // InitializeMagnitude, m the norms of W's rows: the layer's outputs stay as they are.
  void Initialize(at::Generator generator);
  // REQUIRES: W has its values, B is zero. Nothing without DoRA.
  void InitializeMagnitude(const Linear& layer);

  at::Tensor Forward(const Linear& layer, const at::Tensor& x_TI) override;

  const LoraOptions& options() const { return options_; }

 private:
  explicit LoraLayer(const LoraOptions& options) : options_(options) {}
  at::Tensor ForwardDora(const Linear& layer, const at::Tensor& x_TI, const at::Tensor& in_TI);

  LoraOptions options_;
  std::shared_ptr<Linear> lora_a_, lora_b_;
  at::Tensor magnitude_O_;  // undefined without DoRA
};

// W of the one layer that computes what the adapted layer does, in fp32 (fp64 for
// an fp64 base): W + scale B A, with DoRA each row scaled to its magnitude.
// `magnitude_O` may be undefined.
at::Tensor MergedWeight(const at::Tensor& weight_OI, const at::Tensor& a_RI, const at::Tensor& b_OR,
                        const at::Tensor& magnitude_O, double scale);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_LORA_LAYER_H_
