#include "worker/trainer/gguf/tensor_names.h"

#include <string_view>
#include <utility>

namespace liger::trainer {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;

constexpr NamePair kOutsideOfBlocks[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};

constexpr NamePair kInBlocks[] = {
    {"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},   {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},   {"attn_output", "self_attn.o_proj"},
    {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

}  // namespace

std::optional<std::string> HuggingFaceName(const std::string& gguf_name) {
  constexpr std::string_view kBlock = "blk.";
  const std::string_view name = gguf_name;
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return std::nullopt;
  const std::string_view stem = name.substr(0, dot);
  const std::string kind(name.substr(dot));  // ".weight" or ".bias"
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  for (const auto& [theirs, ours] : kOutsideOfBlocks) {
    if (stem == theirs) return std::string(ours) + kind;
  }
  const size_t end = stem.find('.', kBlock.size());
  if (!stem.starts_with(kBlock) || end == stem.npos) return std::nullopt;
  for (const auto& [theirs, ours] : kInBlocks) {
    if (stem.substr(end + 1) != theirs) continue;
    const std::string layer(stem.substr(kBlock.size(), end - kBlock.size()));
    return "model.layers." + layer + "." + std::string(ours) + kind;
  }
  return std::nullopt;
}

}  // namespace liger::trainer
