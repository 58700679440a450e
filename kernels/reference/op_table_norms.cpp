#include <ATen/ATen.h>

#include "kernels/dyt/dyt.h"
#include "kernels/embedding/embedding.h"
#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"
#include "kernels/geglu/geglu.h"
#include "kernels/group_norm/group_norm.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/reference/norm_reference.h"
#include "kernels/reference/op_table_parts.h"
#include "kernels/softmax/softmax.h"

namespace liger::kernels {
namespace {

constexpr double kEps = 1e-5;

OpCase GegluCase(const std::string& name, GeluApproximate approximate) {
  return {.name = name,
          .op = "geglu",
          .shapes = RowShapes(),
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {Randn({s.tokens, s.width}, dtype, 3), Randn({s.tokens, s.width}, dtype)};
          },
          .differentiable = {true, true},
          .ours = [=](const Tensors& in) -> Tensors { return {Geglu(in[0], in[1], approximate)}; },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::Geglu(in[0], in[1], approximate)};
          },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::Geglu(in[0], in[1], approximate == GeluApproximate::kTanh, g[0]);
              }};
}

OpCase FusedAddRmsNormCase(const std::string& name, RmsNormCasting casting, double offset) {
  return {.name = name,
          .op = "fused_add_rms_norm",
          .shapes = NormShapes(),
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {Randn({s.tokens, s.width}, dtype, 2), Randn({s.tokens, s.width}, dtype, 3),
                    Randn({s.width}, dtype)};
          },
          .differentiable = {true, true, true},
          .ours = [=](const Tensors& in) -> Tensors {
            auto [y, sum] = FusedAddRmsNorm(in[0], in[1], in[2], kEps, offset, casting);
            return {y, sum};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            auto [y, sum] = baseline::FusedAddRmsNorm(in[0], in[1], in[2], kEps, offset, casting);
            return {y, sum};
          },
          .num_differentiable_outputs = 2,
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::FusedAddRmsNorm(in[0], in[1], in[2], kEps, offset, g[0], g[1]);
              }};
}

OpCase LayerNormCase(const std::string& name, bool has_bias) {
  // A mean far from zero, of which the variance must not feel anything.
  const auto make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
    Tensors in = {(at::randn({s.tokens, s.width}) * 2 + 5).to(dtype), Randn({s.width}, dtype)};
    if (has_bias) in.push_back(Randn({s.width}, dtype));
    return in;
  };
  const auto bias = [=](const Tensors& in) {
    return has_bias ? std::optional(in[2]) : std::nullopt;
  };
  return {.name = name,
          .op = "layer_norm",
          .shapes = NormShapes(),
          .make = make,
          .differentiable = std::vector<bool>(has_bias ? 3 : 2, true),
          .ours = [=](const Tensors& in) -> Tensors {
            return {LayerNorm(in[0], in[1], bias(in), kEps)};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::LayerNorm(in[0], in[1], bias(in), kEps)};
          },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::LayerNorm(in[0], in[1], bias(in).value_or(at::Tensor()), kEps,
                                            g[0]);
              }};
}

// N = tokens samples of 3 vocab channels in vocab groups, a channel of width elements.
std::vector<OpShape> GroupNormShapes() {
  return {{"one_sample", 1, 64, 3},
          {"ragged", 7, 77, 5},
          {"one_element", 5, 1, 7},
          {"images", 3, 784, 4},
          {"several_pieces", 2, 2056, 3},
          {"no_samples", 0, 8, 2},
          // Held by one block in forward and two in backward; by eight in both; too large.
          {"two_blocks", 2, 8192, 8, 1, true},
          {"eight_blocks", 1, 65536, 3, 1, true},
          {"split", 1, 400000, 1, 1, true}};
}

OpCase GroupNormCase(const std::string& name, bool has_bias) {
  const auto make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
    const int64_t C = 3 * s.vocab;
    Tensors in = {(at::randn({s.tokens, C, s.width}) * 2 + 5).to(dtype), Randn({C}, dtype)};
    if (has_bias) in.push_back(Randn({C}, dtype));
    return in;
  };
  const auto bias = [=](const Tensors& in) {
    return has_bias ? std::optional(in[2]) : std::nullopt;
  };
  const auto groups = [](const Tensors& in) { return in[0].size(1) / 3; };
  return {.name = name,
          .op = "group_norm",
          .shapes = GroupNormShapes(),
          .make = make,
          .differentiable = std::vector<bool>(has_bias ? 3 : 2, true),
          .ours = [=](const Tensors& in) -> Tensors {
            return {GroupNorm(in[0], groups(in), in[1], bias(in), kEps)};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::GroupNorm(in[0], groups(in), in[1], bias(in), kEps)};
          },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::GroupNorm(in[0], groups(in), in[1],
                                            bias(in).value_or(at::Tensor()), kEps, g[0]);
              }};
}

OpCase SoftmaxCase() {
  return {.name = "softmax",
          .op = "softmax",
          .shapes = NormShapes(),
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {Randn({s.tokens, s.width}, dtype, 4)};
          },
          .differentiable = {true},
          .ours = [](const Tensors& in) -> Tensors { return {Softmax(in[0])}; },
          .baseline = [](const Tensors& in) -> Tensors { return {baseline::Softmax(in[0])}; },
          .reference = [](const Tensors& in,
                          const Tensors& g) { return reference::Softmax(in[0], g[0]); }};
}

OpCase DytCase(const std::string& name, bool has_beta) {
  const auto beta = [=](const Tensors& in) {
    return has_beta ? std::optional(in[3]) : std::nullopt;
  };
  return {
      .name = name,
      .op = "dyt",
      .shapes = NormShapes(),
      .make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
        Tensors in = {Randn({s.tokens, s.width}, dtype, 2), at::full({1}, 0.7).to(dtype),
                      Randn({s.width}, dtype)};
        if (has_beta) in.push_back(Randn({s.width}, dtype));
        return in;
      },
      .differentiable = std::vector<bool>(has_beta ? 4 : 3, true),
      .ours = [=](const Tensors& in) -> Tensors { return {Dyt(in[0], in[1], in[2], beta(in))}; },
      .baseline = [=](const Tensors& in) -> Tensors {
        return {baseline::Dyt(in[0], in[1], in[2], beta(in))};
      },
      .reference =
          [=](const Tensors& in, const Tensors& g) {
            return reference::Dyt(in[0], in[1], in[2], beta(in).value_or(at::Tensor()), g[0]);
          }};
}

// The weight comes first: what is differentiable and what a NaN can stand in.
OpCase EmbeddingCase() {
  std::vector<OpShape> shapes = RowShapes();
  shapes.push_back({"many_of_few", 1000, 24, 3});
  shapes.push_back({"few_of_many", 9, 264, 1000});
  return {
      .name = "embedding",
      .op = "embedding",
      .shapes = shapes,
      .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
        return {Randn({s.vocab, s.width}, dtype), at::randint(s.vocab, {s.tokens}, at::kLong)};
      },
      .differentiable = {true, false},
      .ours = [](const Tensors& in) -> Tensors { return {Embedding(in[1], in[0])}; },
      .baseline = [](const Tensors& in) -> Tensors { return {baseline::Embedding(in[1], in[0])}; },
      .reference = [](const Tensors& in,
                      const Tensors& g) { return reference::Embedding(in[1], in[0], g[0]); }};
}

}  // namespace

std::vector<OpCase> NormCases() {
  return {GegluCase("geglu", GeluApproximate::kNone),
          GegluCase("geglu_tanh", GeluApproximate::kTanh),
          FusedAddRmsNormCase("fused_add_rms_norm", RmsNormCasting::kLlama, 0),
          FusedAddRmsNormCase("fused_add_rms_norm_gemma", RmsNormCasting::kGemma, 1),
          LayerNormCase("layer_norm", true),
          LayerNormCase("layer_norm_no_bias", false),
          GroupNormCase("group_norm", true),
          GroupNormCase("group_norm_no_bias", false),
          SoftmaxCase(),
          DytCase("dyt", true),
          DytCase("dyt_no_beta", false),
          EmbeddingCase()};
}

}  // namespace liger::kernels
