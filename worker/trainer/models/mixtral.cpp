// Mixtral (Jiang et al. 2024, arXiv:2401.04088): Mistral with a mixture of experts
// for a feed-forward layer.
#include <string>

#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

// E experts, A = U x num_experts_per_tok assignments of a token to an expert.
namespace liger::trainer {
namespace {

// Where the tokens go.
struct Routing {
  at::Tensor weights_Uk;  // fp32
  at::Tensor experts_Uk;
  at::Tensor probs_UE;  // fp32, of all experts
};

// Which experts a token goes to, and with what weight: the top of softmax(x W^T),
// scaled to a sum of 1.
class Router : public torch::nn::Module {
 public:
  explicit Router(const Build& build) : top_k_(build.config.num_experts_per_tok) {
    const ModelConfig& c = build.config;
    weight_ED_ = register_parameter("weight",
                                    at::empty({c.num_local_experts, c.hidden_size}, build.options));
  }

  Routing forward(const at::Tensor& hidden_UD) {
    const at::Tensor logits_UE = at::linear(hidden_UD, weight_ED_);
    const bool is_double = logits_UE.scalar_type() == at::kDouble;
    const at::Tensor probs_UE = logits_UE.softmax(-1, is_double ? at::kDouble : at::kFloat);
    const auto [top_Uk, experts_Uk] = probs_UE.topk(top_k_, -1);
    return {top_Uk / top_Uk.sum(-1, /*keepdim=*/true), experts_Uk, probs_UE};
  }

 private:
  int64_t top_k_;
  at::Tensor weight_ED_;
};

// The weights themselves; in the backward pass, no gradient for experts without a
// token, whose part of a grouped product's gradient some GPUs leave unwritten
// (pytorch#172439).
class ZeroEmpty : public torch::autograd::Function<ZeroEmpty> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& weight,
                            const at::Tensor& empty_E) {
    ctx->save_for_backward({empty_E});
    return weight.view_as(weight);
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* ctx,
                                               const torch::autograd::tensor_list& grads) {
    const at::Tensor empty_E11 = ctx->get_saved_variables()[0].view({-1, 1, 1});
    return {grads[0].masked_fill(empty_E11, 0), at::Tensor()};
  }
};

// x_AI weight_EOI[e]^T for the rows of each expert e, [A, O]. A grouped product takes rows of a
// multiple of 16 bytes; others get zeros at their ends, which add nothing.
at::Tensor GroupedProduct(const at::Tensor& x_AI, const at::Tensor& weight_EOI,
                          const at::Tensor& ends_E) {
  const int64_t unit = 16 / x_AI.element_size(), out = weight_EOI.size(1);
  const auto lacking = [unit](int64_t size) { return (unit - size % unit) % unit; };
  const int64_t in_pad = lacking(x_AI.size(1)), out_pad = lacking(out);
  if (in_pad == 0 && out_pad == 0) {
    return at::_grouped_mm(x_AI, weight_EOI.transpose(1, 2), ends_E);
  }
  const at::Tensor x = at::constant_pad_nd(x_AI, {0, in_pad});
  const at::Tensor weight = at::constant_pad_nd(weight_EOI, {0, in_pad, 0, out_pad});
  return at::_grouped_mm(x, weight.transpose(1, 2), ends_E).narrow(1, 0, out);
}

// All experts' matrices in one tensor each, so that each product is one grouped
// one over the tokens sorted by expert.
class Experts : public torch::nn::Module {
 public:
  explicit Experts(const Build& build)
      : activation_(build.config.activation), kernels_(build.kernels) {
    const int64_t e = build.config.num_local_experts, d = build.config.hidden_size;
    const int64_t f = build.config.intermediate_size;
    gate_up_ = register_parameter("gate_up_proj", at::empty({e, 2 * f, d}, build.options));
    down_ = register_parameter("down_proj", at::empty({e, d, f}, build.options));
  }

  // in_AD sorted by expert; expert e has the rows up to ends_E[e] (int32).
  at::Tensor forward(const at::Tensor& in_AD, const at::Tensor& ends_E) {
    const at::Tensor empty_E = ends_E.diff(1, 0, at::zeros({1}, ends_E.options())).eq(0);
    const auto weight = [&](const at::Tensor& parameter) {
      return ZeroEmpty::apply(parameter, empty_E);
    };
    const at::Tensor both = GroupedProduct(in_AD, weight(gate_up_), ends_E);
    const auto parts = both.chunk(2, 1);
    const at::Tensor inner_AF = GatedActivation(parts[0], parts[1], activation_, kernels_);
    return GroupedProduct(inner_AF, weight(down_), ends_E);
  }

 private:
  Activation activation_;
  KernelChoice kernels_;
  at::Tensor gate_up_, down_;
};

class SparseMoe : public torch::nn::Module {
 public:
  explicit SparseMoe(const Build& build) : num_experts_(build.config.num_local_experts) {
    gate_ = AddModule<Router>(*this, "gate", build);
    experts_ = AddModule<Experts>(*this, "experts", build);
  }

  BlockOutput forward(const at::Tensor& hidden_UD, const DecoderContext& context) {
    const Routing routing = gate_->forward(hidden_UD);
    const at::Tensor& served_U = context.served_U;
    return {RunExperts(hidden_UD, routing),
            served_U.defined() ? CountRouted(routing, served_U) : at::Tensor()};
  }

 private:
  at::Tensor RunExperts(const at::Tensor& hidden_UD, const Routing& routing) {
    const int64_t per_token = routing.experts_Uk.size(1);
    const at::Tensor expert_A = routing.experts_Uk.flatten();
    const at::Tensor order_A = expert_A.argsort(/*stable=*/true, /*dim=*/0);
    const at::Tensor ends_E = at::one_hot(expert_A, num_experts_).sum(0).cumsum(0).to(at::kInt);
    const at::Tensor token_A = order_A.div(per_token, "floor");
    const at::Tensor out_AD = experts_->forward(hidden_UD.index_select(0, token_A), ends_E);
    const at::Tensor weighted_AD =
        out_AD * routing.weights_Uk.flatten().index_select(0, order_A).unsqueeze(1);
    const at::Tensor by_token =
        weighted_AD.index_select(0, order_A.argsort()).unflatten(0, {-1, per_token});  // [U, k, D]
    return by_token.sum(1).to(hidden_UD.scalar_type());
  }

  // BlockOutput::routed_2E.
  at::Tensor CountRouted(const Routing& routing, const at::Tensor& served_U) const {
    const at::Tensor chosen_UE = at::one_hot(routing.experts_Uk, num_experts_).sum(1);
    const at::Tensor served_U1 = served_U.to(routing.probs_UE.scalar_type()).unsqueeze(1);
    return at::stack({(served_U1 * chosen_UE).sum(0), (served_U1 * routing.probs_UE).sum(0)});
  }

  int64_t num_experts_;
  std::shared_ptr<Router> gate_;
  std::shared_ptr<Experts> experts_;
};

constexpr std::string_view kOurs = ".mlp.", kHub = ".block_sparse_moe.";

}  // namespace

ModelConfig ParseMixtral(const ConfigReader& config) {
  ModelConfig c = ParseCommonConfig(config, {.num_key_value_heads = 8,
                                             .max_position_embeddings = 4096 * 32,
                                             .rms_norm_eps = 1e-5,
                                             .rope = {.theta = 1e6}});
  c.sliding_windows = WindowsFrom(c, 0, config.SizeOrNone("sliding_window", std::nullopt));
  c.num_local_experts = config.Size("num_local_experts", 8, /*max=*/4096);
  c.num_experts_per_tok = config.Size("num_experts_per_tok", 2, c.num_local_experts);
  const double coefficient = config.NotNegative("router_aux_loss_coef", 0.001);
  if (config.Bool("output_router_logits", false)) c.router_aux_loss_coef = coefficient;
  // Grouped products take rows of whole 16 bytes.
  for (const auto& [key, size] : {std::pair<const char*, int64_t>{"hidden_size", c.hidden_size},
                                  {"intermediate_size", c.intermediate_size}}) {
    if (size % 4 != 0) {
      config.Fail(key, "= " + std::to_string(size) + " is not a multiple of 4, as experts need it");
    }
  }
  return c;
}

std::shared_ptr<CausalLM> BuildMixtral(const ModelConfig& config, const KernelChoice& kernels,
                                       const at::TensorOptions& options) {
  return BuildDecoder(config, kernels, options, [](const Build& build, int64_t layer) {
    return std::make_shared<PreNormBlock<SparseMoe>>(build, layer, SelfAttention::Features(),
                                                     std::make_shared<SparseMoe>(build));
  });
}

std::vector<NamedTensor> MixtralCheckpointTensors(const std::string& name,
                                                  const at::Tensor& parameter) {
  const size_t at = name.find(kOurs);
  if (at == std::string::npos) return {{name, parameter}};
  const std::string prefix = name.substr(0, at) + std::string(kHub);
  const std::string rest = name.substr(at + kOurs.size());
  if (rest == "gate.weight") return {{prefix + rest, parameter}};
  std::vector<NamedTensor> tensors;
  for (int64_t e = 0; e < parameter.size(0); ++e) {
    const std::string expert = prefix + "experts." + std::to_string(e);
    const at::Tensor matrix = parameter.select(0, e);
    if (rest == "experts.down_proj") {
      tensors.push_back({expert + ".w2.weight", matrix});
    } else {
      const auto halves = matrix.chunk(2, 0);
      tensors.push_back({expert + ".w1.weight", halves[0]});
      tensors.push_back({expert + ".w3.weight", halves[1]});
    }
  }
  return tensors;
}

}  // namespace liger::trainer
