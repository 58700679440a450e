#include <ATen/ATen.h>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/divergence/divergence.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd.h"
#include "kernels/reference/loss_reference.h"
#include "kernels/reference/op_table_parts.h"

namespace liger::kernels {
namespace {

const std::vector<OpShape>& LossShapes() {
  static const std::vector<OpShape> shapes = {
      {"one_token", 1, 1, 33},         {"ragged", 29, 1, 517},
      {"some_ignored", 31, 1, 211, 3}, {"one_valid", 23, 1, 130, 1000},
      {"smollm2", 7, 1, 49152, 2},     {"aligned", 29, 1, 2048, 1, true},
      {"wide", 5, 1, 128256, 1, true}};
  return shapes;
}

Tensors List(const CrossEntropyOutput& out, bool token_stats) {
  Tensors list = {out.loss, out.z_loss, out.logsumexp_T};
  if (token_stats) list.insert(list.end(), {out.entropy_T, out.argmax_T});
  return list;
}

// Inputs: logits, target, class weights, which without `weighted` the op does not get.
OpCase LogitsCrossEntropyCase(const std::string& name, CrossEntropyOptions options, bool weighted) {
  const auto with_weight = [=](const Tensors& in) {
    CrossEntropyOptions with = options;
    if (weighted) with.class_weight_V = in[2];
    return with;
  };
  return {.name = name,
          .op = "cross_entropy",
          .shapes = LossShapes(),
          .make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            const at::Tensor weight = weighted ? at::rand({s.vocab}) + 0.5 : at::ones({s.vocab});
            return {Randn({s.tokens, s.vocab}, dtype, 4), Targets(s), weight.to(dtype)};
          },
          .differentiable = {true, false, false},
          .ours =
              [=](const Tensors& in) {
                return List(CrossEntropyWithOptions(in[0], in[1], with_weight(in)),
                            options.token_stats);
              },
          .baseline =
              [=](const Tensors& in) {
                return List(baseline::CrossEntropyWithOptions(in[0], in[1], with_weight(in)),
                            options.token_stats);
              },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                auto result =
                    reference::CrossEntropyWithOptions(in[0], in[1], in[2], options, g[0]);
                if (!options.token_stats) result.outputs.resize(3);
                return result;
              },
          .target = 1};
}

const std::vector<OpShape>& DivergenceShapes() {
  static const std::vector<OpShape> shapes = {
      {"one_row", 1, 1, 64},        {"ragged", 37, 1, 517}, {"some_ignored", 31, 1, 211, 3},
      {"all_ignored", 9, 1, 50, 0}, {"no_rows", 0, 1, 8},   {"wide", 5, 1, 32064}};
  return shapes;
}

at::Tensor LogProbs(const OpShape& s, c10::ScalarType dtype) {
  return at::log_softmax(at::randn({s.tokens, s.vocab}) * 2, 1).to(dtype);
}

OpCase KlDivCase(const std::string& name, const KlDivOptions& options) {
  std::vector<OpShape> shapes = DivergenceShapes();
  return {
      .name = name,
      .op = "kl_div",
      .shapes = shapes,
      .make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
        const at::Tensor target = LogProbs(s, at::kFloat);
        return {LogProbs(s, dtype), (options.log_target ? target : target.exp()).to(dtype)};
      },
      .differentiable = {true, false},
      .ours = [=](const Tensors& in) -> Tensors { return {KlDiv(in[0], in[1], options)}; },
      .baseline = [=](const Tensors& in) -> Tensors {
        return {baseline::KlDiv(in[0], in[1], options)};
      },
      .reference = [=](const Tensors& in,
                       const Tensors& g) { return reference::KlDiv(in[0], in[1], options, g[0]); }};
}

OpCase JsdCase(const std::string& name, double beta) {
  return {.name = name,
          .op = "jsd",
          .shapes = DivergenceShapes(),
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {LogProbs(s, dtype), LogProbs(s, dtype), Targets(s)};
          },
          .differentiable = {true, false, false},
          .ours = [=](const Tensors& in) -> Tensors {
            return {Jsd(in[0], in[1], in[2], {.beta = beta})};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::Jsd(in[0], in[1], in[2], {.beta = beta})};
          },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::Jsd(in[0], in[1], in[2], beta, g[0]);
              }};
}

OpCase TvdCase(const std::string& name, Reduction reduction) {
  return {.name = name,
          .op = "tvd",
          .shapes = DivergenceShapes(),
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {LogProbs(s, at::kFloat).exp().to(dtype),
                    LogProbs(s, at::kFloat).exp().to(dtype), Targets(s)};
          },
          .differentiable = {true, false, false},
          .ours = [=](const Tensors& in) -> Tensors {
            return {Tvd(in[0], in[1], in[2], {.reduction = reduction})};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::Tvd(in[0], in[1], in[2], {.reduction = reduction})};
          },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::Tvd(in[0], in[1], in[2], reduction, g[0]);
              }};
}

// The teacher's hidden states are five wider than the student's. Inputs: the four of the heads,
// label, student's and teacher's bias, which without `biased` the op does not get.
OpCase FusedLinearJsdCase(const std::string& name, const FusedLinearJsdOptions& options,
                          bool biased = false) {
  std::vector<OpShape> shapes = {
      {"one_token", 1, 16, 33},
      {"ragged", 29, 24, 517},
      {"some_ignored", 31, 24, 211, 3},
      {"one_valid", 23, 16, 130, 1000},
      {"all_ignored", 9, 16, 50, 0},
      {"no_tokens", 0, 8, 20},
      // One block, eight, eight with twice the registers; float32: more than fit. The last one
      // logit at a time.
      {"aligned", 29, 24, 2048, 1, true},
      {"wide", 5, 16, 128256, 1, true},
      {"very_wide", 3, 8, 200064, 1, true},
      {"very_wide_ragged", 3, 8, 200063, 1, true}};
  // Chunks do not ask what is computed of them, and take their time on a CPU.
  if (name == "fused_linear_jsd") shapes.push_back({"two_chunks", 66, 3, 131101});
  const auto with_biases = [=](const Tensors& in) {
    FusedLinearJsdOptions with = options;
    if (biased) with.student_bias_V = in[5], with.teacher_bias_V = in[6];
    return with;
  };
  return {.name = name,
          .op = "fused_linear_jsd",
          .shapes = shapes,
          .make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            const auto bias = [&] {
              return biased ? Randn({s.vocab}, dtype) : at::zeros({s.vocab}, dtype);
            };
            return {Randn({s.tokens, s.width}, dtype),
                    Randn({s.vocab, s.width}, dtype),
                    Randn({s.tokens, s.width + 5}, dtype),
                    Randn({s.vocab, s.width + 5}, dtype),
                    Targets(s),
                    bias(),
                    bias()};
          },
          .differentiable = {true, true, false, false, false, biased, false},
          .ours = [=](const Tensors& in) -> Tensors {
            return {FusedLinearJsd(in[0], in[1], in[2], in[3], in[4], with_biases(in))};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::FusedLinearJsd(in[0], in[1], in[2], in[3], in[4], with_biases(in))};
          },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                auto result =
                    reference::FusedLinearJsd(in[0], in[1], in[2], in[3], in[4], in[5], in[6],
                                              options.beta, options.temperature, g[0]);
                if (!biased) result.grads.resize(2);
                return result;
              },
          .label = 4};
}

}  // namespace

std::vector<OpCase> LossCases() {
  CrossEntropyOptions all{.reduction = Reduction::kMean,
                          .scale = 3,
                          .label_smoothing = 0.1,
                          .softcap = 5,
                          .lse_square_scale = 1e-2,
                          .token_stats = true};
  CrossEntropyOptions rows = all;
  rows.reduction = Reduction::kNone;
  return {LogitsCrossEntropyCase("cross_entropy_mean", {.token_stats = true}, false),
          LogitsCrossEntropyCase("cross_entropy_smoothed",
                           {.reduction = Reduction::kSum, .label_smoothing = 0.2}, false),
          LogitsCrossEntropyCase("cross_entropy_softcap", {.softcap = 8}, false),
          LogitsCrossEntropyCase("cross_entropy_z_loss", {.lse_square_scale = 0.1}, false),
          LogitsCrossEntropyCase("cross_entropy_weighted", {}, true),
          LogitsCrossEntropyCase("cross_entropy_all_options", all, true),
          LogitsCrossEntropyCase("cross_entropy_all_options_none", rows, true),
          KlDivCase("kl_div", {}),
          KlDivCase("kl_div_log_target", {.reduction = Reduction::kMean, .log_target = true}),
          KlDivCase("kl_div_none", {.reduction = Reduction::kNone, .eps = 1e-3}),
          KlDivCase("kl_div_sum", {.reduction = Reduction::kSum}),
          JsdCase("jsd", 0.5),
          JsdCase("jsd_uneven", 0.1),
          JsdCase("jsd_forward_kl", 0),
          JsdCase("jsd_reverse_kl", 1),
          FusedLinearJsdCase("fused_linear_jsd", {}),
          FusedLinearJsdCase("fused_linear_jsd_warm", {.beta = 0.2, .temperature = 2.5}),
          FusedLinearJsdCase("fused_linear_jsd_biased", {.beta = 0.3, .temperature = 1.5}, true),
          FusedLinearJsdCase("fused_linear_jsd_forward_kl", {.beta = 0}),
          FusedLinearJsdCase("fused_linear_jsd_reverse_kl", {.beta = 1, .temperature = 0.7}),
          TvdCase("tvd", Reduction::kBatchMean),
          TvdCase("tvd_none", Reduction::kNone)};
}

}  // namespace liger::kernels
