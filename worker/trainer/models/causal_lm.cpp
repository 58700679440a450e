#include "worker/trainer/models/causal_lm.h"

#include "worker/trainer/models/layers.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {

SequenceLayout SequenceLayout::FromCuSeqlens(const at::Tensor& cu_seqlens_S1, at::Device device,
                                             std::shared_ptr<const SequenceGroup> group) {
  const at::Tensor host_S1 = cu_seqlens_S1.to(at::kCPU, at::kLong).contiguous();
  TORCH_CHECK(host_S1.dim() == 1 && host_S1.numel() >= 1, "cu_seqlens must be a vector of S + 1");
  SequenceLayout layout;
  const int64_t* offsets = host_S1.const_data_ptr<int64_t>();
  layout.offsets_S1.assign(offsets, offsets + host_S1.numel());
  TORCH_CHECK(offsets[0] == 0, "cu_seqlens must start at 0");
  for (int64_t s = 0; s < layout.num_sequences(); ++s) {
    TORCH_CHECK(offsets[s] <= offsets[s + 1], "cu_seqlens must not fall, at sequence ", s);
    layout.max_seqlen = std::max(layout.max_seqlen, offsets[s + 1] - offsets[s]);
  }
  layout.cu_seqlens_S1 = cu_seqlens_S1.to(device, at::kInt);
  if (group) layout.DivideAmong(std::move(group));
  return layout;
}

void SequenceLayout::DivideAmong(std::shared_ptr<const SequenceGroup> among) {
  group = std::move(among);
  const int64_t tokens = num_tokens(), size = group->size();
  padding = (size - tokens % size) % size;
  if (padding == 0) return;
  offsets_S1.push_back(tokens + padding);
  const at::Tensor end_1 = at::full({1}, tokens + padding, cu_seqlens_S1.options());
  cu_seqlens_S1 = at::cat({cu_seqlens_S1, end_1});
  max_seqlen = std::max(max_seqlen, padding);
}

at::Tensor SequenceLayout::Own(const at::Tensor& x_T, double fill) const {
  if (!group) return x_T;
  const int64_t lacking = num_tokens() - x_T.size(0);
  TORCH_CHECK(x_T.dim() == 1 && (lacking == 0 || lacking == padding),
              "expected a value a token, not ", x_T.sizes());
  const at::Tensor all_T = lacking > 0 ? at::constant_pad_nd(x_T, {0, lacking}, fill) : x_T;
  return all_T.narrow(0, own_begin(), num_computed());
}

void KeyValueCache::Layer::Append(const at::Tensor& keys_TKH, const at::Tensor& values_TKH) {
  keys_CKH = keys_CKH.defined() ? at::cat({keys_CKH, keys_TKH}) : keys_TKH;
  values_CKH = values_CKH.defined() ? at::cat({values_CKH, values_TKH}) : values_TKH;
}

CausalLM::CausalLM(ModelConfig config, KernelChoice kernels)
    : config_(std::move(config)), kernels_(kernels) {}

at::Tensor CausalLM::Hidden(const ModelInput& input, KeyValueCache* cache, at::Tensor* aux_loss) {
  if (before_forward_) before_forward_();
  const bool has_aux_loss = aux_loss != nullptr && config_.router_aux_loss_coef > 0;
  const at::Tensor hidden_UD = ComputedHidden(input, cache, has_aux_loss ? aux_loss : nullptr);
  const SharedPrefixes* shared = input.sequences.shared.get();
  return shared ? ToAllTokens(hidden_UD, *shared) : hidden_UD;
}

at::Tensor CausalLM::Logits(const at::Tensor& hidden_TD) {
  const at::Tensor logits_TV =
      LinearProduct(hidden_TD, HeadWeight(), std::nullopt, kernels_.linear);
  const double cap = config_.final_logit_softcapping;
  return cap == 0 ? logits_TV : (logits_TV / cap).tanh() * cap;
}

at::Device CausalLM::device() const { return parameters().front().device(); }

BlockOutput CausalLM::RunBlock(int64_t layer, const BlockFn& block,
                               const at::Tensor& hidden_TD) const {
  Tick();
  return block_runner_ ? block_runner_(layer, block, hidden_TD) : block(hidden_TD);
}

}  // namespace liger::trainer
