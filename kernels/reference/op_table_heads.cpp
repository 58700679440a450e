#include <ATen/ATen.h>

#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/reference/head_options_reference.h"
#include "kernels/reference/op_table_parts.h"

namespace liger::kernels {
namespace {

// `chunked`: with a head of several chunks, which takes its time on a CPU. Not where the result is
// one number, of which so large a shape has one draw.
std::vector<OpShape> Shapes(bool chunked) {
  std::vector<OpShape> shapes = {
      {"one_token", 1, 16, 33},           {"ragged", 29, 24, 517},
      {"some_ignored", 31, 24, 211, 3},   {"one_valid", 23, 16, 130, 1000},
      {"all_ignored", 9, 16, 50, 0},      {"no_tokens", 0, 8, 20},
      {"aligned", 29, 24, 2048, 1, true}, {"wide", 5, 16, 128256, 1, true}};
  if (chunked) shapes.push_back({"three_chunks", 70, 3, 262147});
  return shapes;
}

// hidden, weight, target, bias, token weights.
Tensors Inputs(const OpShape& s, c10::ScalarType dtype) {
  const at::Tensor token_weight = at::rand({s.tokens}) + 0.5;
  return {Randn({s.tokens, s.width}, dtype), Randn({s.vocab, s.width}, dtype), Targets(s),
          Randn({s.vocab}, dtype), dtype == at::kDouble ? token_weight.to(dtype) : token_weight};
}

// How many there are hangs on values, which meta tensors do not have.
std::optional<at::Tensor> ValidRows(const Tensors& in) {
  if (in[2].is_meta()) return std::nullopt;
  return at::nonzero(in[2] != kIgnoreIndex).view(-1);
}

// `weighted`: with the token weights, which the op does not get otherwise.
OpCase CrossEntropyCase(const std::string& name, FusedLinearCrossEntropyOptions options,
                        bool weighted, bool hands_in_rows = false) {
  options.token_stats = true;
  const auto with_inputs = [=](const Tensors& in) {
    FusedLinearCrossEntropyOptions with = options;
    if (weighted) with.token_weight_T = in[4];
    if (hands_in_rows) with.valid_rows_M = ValidRows(in);
    return with;
  };
  const auto list = [](const FusedLinearCrossEntropyOutput& out) -> Tensors {
    return {out.loss, out.entropy_T, out.is_top1_T};
  };
  return {.name = name,
          .op = "fused_linear_cross_entropy",
          .shapes = Shapes(/*chunked=*/false),
          .make = Inputs,
          .differentiable = {true, true, false, true, false},
          .ours =
              [=](const Tensors& in) {
                return list(FusedLinearCrossEntropy(in[0], in[1], in[2], in[3], with_inputs(in)));
              },
          .baseline =
              [=](const Tensors& in) {
                return list(
                    baseline::FusedLinearCrossEntropy(in[0], in[1], in[2], in[3], with_inputs(in)));
              },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::FusedLinearCrossEntropyWithOptions(
                    in[0], in[1], in[2], in[3], weighted ? in[4] : at::ones_like(in[4]), options,
                    g[0]);
              },
          .target = 2};
}

OpCase LogprobCase(const std::string& name, FusedLinearLogprobOptions options, bool frozen_head,
                   bool hands_in_rows = false) {
  options.token_stats = true;
  const auto with_inputs = [=](const Tensors& in) {
    FusedLinearLogprobOptions with = options;
    if (hands_in_rows) with.valid_rows_M = ValidRows(in);
    return with;
  };
  const auto list = [](const FusedLinearLogprobOutput& out) -> Tensors {
    return {out.logp_T, out.entropy_T, out.log_sum_sq_T, out.mean_logit_T, out.is_top1_T};
  };
  return {
      .name = name,
      .op = "fused_linear_logprob",
      .shapes = Shapes(/*chunked=*/!frozen_head && hands_in_rows),
      .make =
          [](const OpShape& s, c10::ScalarType dtype) {
            Tensors in = Inputs(s, dtype);
            in.pop_back();
            return in;
          },
      .differentiable = {true, !frozen_head, false, !frozen_head},
      .ours =
          [=](const Tensors& in) {
            return list(FusedLinearLogprob(in[0], in[1], in[2], in[3], with_inputs(in)));
          },
      .baseline =
          [=](const Tensors& in) {
            return list(baseline::FusedLinearLogprob(in[0], in[1], in[2], in[3], with_inputs(in)));
          },
      .reference =
          [=](const Tensors& in, const Tensors& g) {
            auto result =
                reference::FusedLinearLogprobWithOptions(in[0], in[1], in[2], in[3], options, g[0]);
            if (frozen_head) result.grads.resize(1);
            return result;
          },
      .target = 2};
}

}  // namespace

std::vector<OpCase> HeadOptionCases() {
  const std::string flce = "fused_linear_cross_entropy", logprob = "fused_linear_logprob";
  return {
      CrossEntropyCase(flce + "_softcap", {.scale = 1.0 / 7, .softcap = 8}, false),
      CrossEntropyCase(flce + "_temperature", {.scale = 1.0 / 7, .temperature = 1.3}, false, true),
      CrossEntropyCase(flce + "_smoothed", {.label_smoothing = 0.2}, false),
      CrossEntropyCase(flce + "_z_loss", {.scale = 1.0 / 7, .lse_square_scale = 0.1}, false),
      CrossEntropyCase(flce + "_weighted", {.scale = 1.0 / 7}, true),
      CrossEntropyCase(flce + "_all_options",
                       {.scale = 3,
                        .softcap = 5,
                        .temperature = 1.3,
                        .label_smoothing = 0.1,
                        .lse_square_scale = 1e-2},
                       true, true),
      LogprobCase(logprob + "_softcap", {.softcap = 8}, false),
      LogprobCase(logprob + "_softcap_temperature", {.softcap = 5, .temperature = 1.3}, false,
                  true),
      LogprobCase(logprob + "_temperature_frozen_head", {.temperature = 0.7}, true, true)};
}

}  // namespace liger::kernels
