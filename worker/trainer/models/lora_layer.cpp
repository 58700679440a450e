#include "worker/trainer/models/lora_layer.h"

#include <cmath>

namespace liger::trainer {
namespace {

// Rows of W whose sum with B A exists at once, for the norms.
constexpr int64_t kRows = 2048;

at::ScalarType SumDtype(const at::Tensor& weight_OI) {
  return weight_OI.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor MergedRows(const at::Tensor& weight_OI, const at::Tensor& a_RI, const at::Tensor& b_OR,
                      double scale) {
  const auto dtype = SumDtype(weight_OI);
  return at::addmm(weight_OI.to(dtype), b_OR.to(dtype), a_RI.to(dtype), /*beta=*/1, scale);
}

// |W + scale B A| of each row.
at::Tensor RowNorms(const at::Tensor& weight_OI, const at::Tensor& a_RI, const at::Tensor& b_OR,
                    double scale) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (int64_t begin = 0; begin < weight_OI.size(0); begin += kRows) {
    const at::Tensor rows = MergedRows(weight_OI.slice(0, begin, begin + kRows), a_RI,
                                       b_OR.slice(0, begin, begin + kRows), scale);
    norms.push_back(at::linalg_vector_norm(rows, 2, at::IntArrayRef{1}));
  }
  return at::cat(norms);
}

}  // namespace

std::shared_ptr<LoraLayer> LoraLayer::Attach(Linear& layer, const LoraOptions& options,
                                             at::ScalarType dtype) {
  const int64_t in = layer.weight.size(1), out = layer.weight.size(0);
  const at::TensorOptions like = layer.weight.options().dtype(dtype).requires_grad(false);
  std::shared_ptr<LoraLayer> lora(new LoraLayer(options));
  lora->lora_a_ = AddModule<Linear>(layer, "lora_A", in, options.r, false, layer.fused(), like);
  lora->lora_b_ = AddModule<Linear>(layer, "lora_B", options.r, out, false, layer.fused(), like);
  if (options.use_dora) {
    lora->magnitude_O_ = layer.register_parameter("lora_magnitude_vector", at::empty({out}, like));
  }
  lora->lora_a_->train(layer.is_training());
  layer.adapter = lora;
  return lora;
}

void LoraLayer::Initialize(at::Generator generator) {
  const at::NoGradGuard no_grad;
  const double bound = 1 / std::sqrt(static_cast<double>(lora_a_->weight.size(1)));
  // On the host and in fp32, so that every device and dtype starts from the same.
  lora_a_->weight.copy_(
      at::empty(lora_a_->weight.sizes(), at::kFloat).uniform_(-bound, bound, generator));
  lora_b_->weight.zero_();
}

void LoraLayer::InitializeMagnitude(const Linear& layer) {
  const at::NoGradGuard no_grad;
  if (!magnitude_O_.defined()) return;
  magnitude_O_.copy_(RowNorms(layer.weight, lora_a_->weight, lora_b_->weight, 0));
}

at::Tensor LoraLayer::Forward(const Linear& layer, const at::Tensor& x_TI) {
  const bool drops = options_.dropout > 0 && lora_a_->is_training();
  const at::Tensor in_TI = drops ? at::dropout(x_TI, options_.dropout, /*train=*/true) : x_TI;
  if (magnitude_O_.defined()) return ForwardDora(layer, x_TI, in_TI);
  const at::Tensor low_TR = lora_a_->forward(in_TI);
  // In place: nothing keeps the product for its backward pass.
  return layer.Product(x_TI).addmm_(low_TR, lora_b_->weight.t(), /*beta=*/1, options_.scale);
}

at::Tensor LoraLayer::ForwardDora(const Linear& layer, const at::Tensor& x_TI,
                                  const at::Tensor& in_TI) {
  const auto dtype = x_TI.scalar_type();
  // Rounded as m is, so that both cancel at the start in any dtype.
  const at::Tensor norm_O = RowNorms(layer.weight, lora_a_->weight, lora_b_->weight, options_.scale)
                                .to(magnitude_O_.scalar_type());
  const auto exact = SumDtype(layer.weight);
  const at::Tensor factor_O = magnitude_O_.to(exact) / norm_O.to(exact);

  at::Tensor base_TO = LinearProduct(in_TI, layer.weight, std::nullopt, layer.fused());
  const at::Tensor low_TR = lora_a_->forward(in_TI);
  if (in_TI.is_same(x_TI)) {
    base_TO.addmm_(low_TR, lora_b_->weight.t(), /*beta=*/1, options_.scale);
    const at::Tensor out_TO = (base_TO * factor_O).to(dtype);
    return layer.bias.defined() ? out_TO + layer.bias : out_TO;
  }
  const at::Tensor delta_TO = at::mm(low_TR, lora_b_->weight.t()) * options_.scale;
  return layer.Product(x_TI) + ((factor_O - 1) * base_TO + factor_O * delta_TO).to(dtype);
}

at::Tensor MergedWeight(const at::Tensor& weight_OI, const at::Tensor& a_RI, const at::Tensor& b_OR,
                        const at::Tensor& magnitude_O, double scale) {
  const at::NoGradGuard no_grad;
  at::Tensor merged_OI = MergedRows(weight_OI, a_RI, b_OR, scale);
  if (!magnitude_O.defined()) return merged_OI;
  const at::Tensor norm_O = at::linalg_vector_norm(merged_OI, 2, at::IntArrayRef{1});
  const at::Tensor factor_O =
      magnitude_O.to(norm_O.scalar_type()) / norm_O.to(magnitude_O.scalar_type());
  return merged_OI.mul_(factor_O.unsqueeze(1));
}

}  // namespace liger::trainer
