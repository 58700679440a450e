#ifndef LIGER_WORKER_TRAINER_MODELS_LAYERS_H_
#define LIGER_WORKER_TRAINER_MODELS_LAYERS_H_

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "kernels/rms_norm/rms_norm.h"

namespace liger::trainer {

// The layers that models are made of. Parameters are left uninitialised, since
// weights are loaded or drawn right after (torch::nn's own layers would fill
// them first, seconds for a large model).

// Makes a child module and registers it under its Hugging Face name.
template <typename Child, typename... Args>
std::shared_ptr<Child> AddModule(torch::nn::Module& parent, const std::string& name,
                                 Args&&... args) {
  return parent.register_module(name, std::make_shared<Child>(std::forward<Args>(args)...));
}

// x W^T + b by kernels::Linear if fused, else by its baseline twin.
at::Tensor LinearProduct(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                         const std::optional<at::Tensor>& bias_O, bool fused);

class Linear;

// What takes the place of a layer's product, applied from outside (LoRA). Its
// parameters are registered with the layer.
class LinearAdapter {
 public:
  virtual ~LinearAdapter() = default;
  // [T, I] to [T, O].
  virtual at::Tensor Forward(const Linear& layer, const at::Tensor& x_TI) = 0;
};

class Linear : public torch::nn::Module {
 public:
  // fused: of LinearProduct.
  Linear(int64_t in_features, int64_t out_features, bool bias, bool fused,
         const at::TensorOptions& options);
  // [T, I] to [T, O].
  at::Tensor forward(const at::Tensor& x_TI);
  // The same of the layer whose result, added to the residual stream, is what a block returns: in a
  // GradientReplay the product is left out.
  at::Tensor ForwardLast(const at::Tensor& x_TI);
  // Whether kernels may take the layer's place that compute its product with `weight`: it has no
  // adapter, and they are asked for.
  bool CanFuse() const { return fused_ && !adapter; }
  // The layer's own product, without an adapter.
  at::Tensor Product(const at::Tensor& x_TI) const;
  bool fused() const { return fused_; }
  std::optional<at::Tensor> optional_bias() const {
    return bias.defined() ? std::optional(bias) : std::nullopt;
  }

  at::Tensor weight;                       // [O, I]
  at::Tensor bias;                         // [O] or undefined
  std::shared_ptr<LinearAdapter> adapter;  // or none

 private:
  bool fused_;
};

class Embedding : public torch::nn::Module {
 public:
  // Looking up row `padding_idx` gives it no gradient, as torch.nn.Embedding.
  Embedding(int64_t num_embeddings, int64_t embedding_dim, std::optional<int64_t> padding_idx,
            const at::TensorOptions& options);
  // [T] to [T, D].
  at::Tensor forward(const at::Tensor& ids_T);

  at::Tensor weight;  // [V, D]

 private:
  int64_t padding_idx_;  // -1: none
};

class RmsNorm : public torch::nn::Module {
 public:
  // `unit_offset`: multiplies with 1 + weight in fp32, as Gemma. `fused`: the
  // LIGER op or its baseline twin.
  RmsNorm(int64_t size, double eps, bool unit_offset, bool fused, const at::TensorOptions& options);
  // [..., D] to [..., D].
  at::Tensor forward(const at::Tensor& x_D);
  // {norm(x + residual), x + residual}, fused in one pass.
  std::pair<at::Tensor, at::Tensor> AddThenNorm(const at::Tensor& x_D,
                                                const at::Tensor& residual_D);

  at::Tensor weight;  // [D]

 private:
  double offset() const { return unit_offset_ ? 1 : 0; }
  kernels::RmsNormCasting casting() const {
    return unit_offset_ ? kernels::RmsNormCasting::kGemma : kernels::RmsNormCasting::kLlama;
  }

  double eps_;
  bool unit_offset_, fused_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_LAYERS_H_
