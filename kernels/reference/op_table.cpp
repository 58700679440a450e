#include "kernels/reference/op_table.h"

#include <ATen/ATen.h>

#include <utility>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/linear/linear.h"
#include "kernels/matmul_int2xint8/matmul_int2xint8.h"
#include "kernels/reference/op_table_parts.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/swiglu/swiglu.h"

namespace liger::kernels {

at::Tensor Randn(at::IntArrayRef shape, c10::ScalarType dtype, double scale) {
  return (at::randn(shape, at::kFloat) * scale).to(dtype);
}

at::Tensor Targets(const OpShape& shape) {
  at::Tensor target = at::randint(shape.vocab, {shape.tokens}, at::kLong);
  int64_t* y = target.data_ptr<int64_t>();
  for (int64_t t = 0; t < shape.tokens; ++t) {
    // Counted from the end, so that "one valid" is the last token.
    const bool valid = shape.valid_every > 0 && (shape.tokens - 1 - t) % shape.valid_every == 0;
    if (!valid) y[t] = kIgnoreIndex;
  }
  return target;
}

const std::vector<OpShape>& RowShapes() {
  static const std::vector<OpShape> shapes = {{"one_row", 1, 64, 3},
                                              {"ragged", 37, 77, 5},
                                              {"one_column", 5, 1, 7},
                                              {"smollm2", 101, 576, 96},
                                              {"no_rows", 0, 8, 2}};
  return shapes;
}

const std::vector<OpShape>& NormShapes() {
  static const std::vector<OpShape> shapes = [] {
    std::vector<OpShape> all = RowShapes();
    all.push_back({"wide", 7, 4096, 1});
    all.push_back({"very_wide", 3, 20008, 1});
    all.push_back({"longest", 3, 65536, 1});
    all.push_back({"many_rows", 4000, 24, 1});
    return all;
  }();
  return shapes;
}

namespace {

constexpr double kEps = 1e-5;
constexpr double kScale = 1.0 / 7;

const std::vector<OpShape>& HeadShapes() {
  static const std::vector<OpShape> shapes = {
      {"one_token", 1, 16, 33},
      {"ragged", 29, 24, 517},
      {"some_ignored", 31, 24, 211, 3},
      {"one_valid", 23, 16, 130, 1000},
      {"all_ignored", 9, 16, 50, 0},
      {"no_tokens", 0, 8, 20},
      {"three_chunks", 70, 3, 262147},
      // Rows of whole 16 byte packs: one block of a cluster, eight.
      {"aligned", 29, 24, 2048, 1, true},
      {"wide", 5, 16, 128256, 1, true}};
  return shapes;
}

OpCase LinearCase() {
  return {
      .name = "linear",
      .op = "linear",
      .shapes = RowShapes(),
      .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
        return {Randn({s.tokens, s.width}, dtype), Randn({s.vocab, s.width}, dtype, 0.2),
                Randn({s.vocab}, dtype)};
      },
      .differentiable = {true, true, true},
      .ours = [](const Tensors& in) -> Tensors { return {Linear(in[0], in[1], in[2])}; },
      .baseline = [](const Tensors& in) -> Tensors {
        return {baseline::Linear(in[0], in[1], in[2])};
      },
      .reference = [](const Tensors& in,
                      const Tensors& g) { return reference::Linear(in[0], in[1], in[2], g[0]); }};
}

OpCase RmsNormCase(const std::string& name, RmsNormCasting casting, double offset) {
  return {.name = name,
          .op = "rms_norm",
          .shapes = NormShapes(),
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {Randn({s.tokens, s.width}, dtype, 3), Randn({s.width}, dtype)};
          },
          .differentiable = {true, true},
          .ours = [=](const Tensors& in) -> Tensors {
            return {RmsNorm(in[0], in[1], kEps, offset, casting)};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::RmsNorm(in[0], in[1], kEps, offset, casting)};
          },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::RmsNorm(in[0], in[1], kEps, offset, g[0]);
              }};
}

// `rotary`: R of a head of size D. `multimodal`: sections of a quarter, a quarter and the rest.
OpCase RopeCase(const std::string& name, std::function<int64_t(int64_t)> rotary,
                bool multimodal = false) {
  const auto section = [=](const Tensors& in) -> std::vector<int64_t> {
    if (!multimodal) return {};
    const int64_t half = in[2].size(-1) / 2, quarter = half / 4;
    return {quarter, quarter, half - 2 * quarter};
  };
  return {.name = name,
          .op = "rope",
          .shapes = {{"one_token", 1, 8, 2},
                     {"ragged", 13, 18, 5},
                     {"smollm2", 101, 64, 9},
                     {"no_tokens", 0, 8, 2}},
          .make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            const int64_t R = rotary(s.width);
            const at::Tensor angle =
                (multimodal ? at::randn({3, s.tokens, R}) : at::randn({s.tokens, R})) * 3;
            return {Randn({s.tokens, s.vocab, s.width}, dtype),
                    Randn({s.tokens, (s.vocab + 2) / 3, s.width}, dtype), angle.cos().to(dtype),
                    angle.sin().to(dtype)};
          },
          .differentiable = {true, true, false, false},
          .ours = [=](const Tensors& in) -> Tensors {
            auto [q, k] = Rope(in[0], in[1], in[2], in[3], section(in));
            return {q, k};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            auto [q, k] = baseline::Rope(in[0], in[1], in[2], in[3], section(in));
            return {q, k};
          },
          .num_differentiable_outputs = 2,
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                return reference::Rope(in[0], in[1], in[2], in[3], g[0], g[1], section(in));
              }};
}

OpCase SwigluCase() {
  return {.name = "swiglu",
          .op = "swiglu",
          .shapes = RowShapes(),
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {Randn({s.tokens, s.width}, dtype, 4), Randn({s.tokens, s.width}, dtype)};
          },
          .differentiable = {true, true},
          .ours = [](const Tensors& in) -> Tensors { return {Swiglu(in[0], in[1])}; },
          .baseline = [](const Tensors& in) -> Tensors { return {baseline::Swiglu(in[0], in[1])}; },
          .reference = [](const Tensors& in,
                          const Tensors& g) { return reference::Swiglu(in[0], in[1], g[0]); }};
}

OpCase CrossEntropyCase() {
  std::vector<OpShape> shapes = HeadShapes();
  shapes.push_back({"smollm2", 7, 1, 49152, 2});
  return {.name = "cross_entropy",
          .op = "cross_entropy",
          .shapes = shapes,
          .make = [](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            return {Randn({s.tokens, s.vocab}, dtype, 4), Targets(s)};
          },
          .differentiable = {true, false},
          .ours = [](const Tensors& in) -> Tensors { return {CrossEntropy(in[0], in[1], kScale)}; },
          .baseline = [](const Tensors& in) -> Tensors {
            return {baseline::CrossEntropy(in[0], in[1], kScale)};
          },
          .reference =
              [](const Tensors& in, const Tensors& g) {
                return reference::CrossEntropy(in[0], in[1], kScale, kIgnoreIndex, g[0]);
              },
          .target = 1};
}

Tensors HeadInputs(const OpShape& s, c10::ScalarType dtype) {
  return {Randn({s.tokens, s.width}, dtype), Randn({s.vocab, s.width}, dtype), Targets(s),
          Randn({s.vocab}, dtype)};
}

OpCase FusedLinearCrossEntropyCase() {
  const FusedLinearCrossEntropyOptions options{.scale = kScale, .token_stats = true};
  const auto list = [](const FusedLinearCrossEntropyOutput& out) -> Tensors {
    return {out.loss, out.entropy_T, out.is_top1_T};
  };
  return {.name = "fused_linear_cross_entropy",
          .op = "fused_linear_cross_entropy",
          .shapes = HeadShapes(),
          .make = HeadInputs,
          .differentiable = {true, true, false, true},
          .ours =
              [=](const Tensors& in) {
                return list(FusedLinearCrossEntropy(in[0], in[1], in[2], in[3], options));
              },
          .baseline =
              [=](const Tensors& in) {
                return list(baseline::FusedLinearCrossEntropy(in[0], in[1], in[2], in[3], options));
              },
          .reference =
              [](const Tensors& in, const Tensors& g) {
                return reference::FusedLinearCrossEntropy(in[0], in[1], in[2], in[3], kScale,
                                                          kIgnoreIndex, g[0]);
              },
          .target = 2};
}

OpCase FusedLinearLogprobCase(const std::string& name, bool frozen_head) {
  const FusedLinearLogprobOptions options{.token_stats = true};
  const auto list = [](const FusedLinearLogprobOutput& out) -> Tensors {
    return {out.logp_T, out.entropy_T, out.log_sum_sq_T, out.mean_logit_T, out.is_top1_T};
  };
  return {.name = name,
          .op = "fused_linear_logprob",
          .shapes = HeadShapes(),
          .make = HeadInputs,
          .differentiable = {true, !frozen_head, false, !frozen_head},
          .ours =
              [=](const Tensors& in) {
                return list(FusedLinearLogprob(in[0], in[1], in[2], in[3], options));
              },
          .baseline =
              [=](const Tensors& in) {
                return list(baseline::FusedLinearLogprob(in[0], in[1], in[2], in[3], options));
              },
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                auto result =
                    reference::FusedLinearLogprob(in[0], in[1], in[2], in[3], kIgnoreIndex, g[0]);
                if (frozen_head) result.grads.resize(1);
                return result;
              },
          .target = 2};
}

// R = width, N = vocab. Every code of two bits.
OpCase MatmulInt2xInt8Case() {
  std::vector<OpShape> shapes = RowShapes();
  // Whole tiles, more than one of rows, columns and sums; a single row of them; a tile's rest.
  shapes.push_back({"aligned", 130, 96, 272});
  shapes.push_back({"one_wide_row", 1, 304, 1040});
  shapes.push_back({"ragged_tiles", 71, 133, 259});
  return {.name = "matmul_int2xint8",
          .op = "matmul_int2xint8",
          .shapes = shapes,
          .make = [](const OpShape& s, c10::ScalarType) -> Tensors {
            return {at::randint(-128, 128, {s.tokens, 4 * s.width}, at::kChar),
                    at::randint(0, 256, {s.width, s.vocab}, at::kByte)};
          },
          .differentiable = {false, false},
          .ours = [](const Tensors& in) -> Tensors { return {MatmulInt2xInt8(in[0], in[1])}; },
          .baseline = [](const Tensors& in) -> Tensors {
            return {baseline::MatmulInt2xInt8(in[0], in[1])};
          },
          .num_differentiable_outputs = 0,
          .reference = [](const Tensors& in,
                          const Tensors&) { return reference::MatmulInt2xInt8(in[0], in[1]); },
          .integral = true};
}

}  // namespace

const std::vector<OpCase>& OpTable() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> cases = {
        LinearCase(),
        RmsNormCase("rms_norm", RmsNormCasting::kLlama, 0),
        RmsNormCase("rms_norm_gemma", RmsNormCasting::kGemma, 1),
        RmsNormCase("rms_norm_plain", RmsNormCasting::kNone, 0),
        RopeCase("rope", [](int64_t D) { return D; }),
        RopeCase("rope_partial", [](int64_t D) { return D / 4 * 2; }),
        RopeCase(
            "rope_multimodal", [](int64_t D) { return D; }, /*multimodal=*/true),
        SwigluCase(),
        CrossEntropyCase(),
        FusedLinearCrossEntropyCase(),
        FusedLinearLogprobCase("fused_linear_logprob", false),
        FusedLinearLogprobCase("fused_linear_logprob_frozen_head", true),
        MatmulInt2xInt8Case(),
    };
    for (OpCase& c : NormCases()) cases.push_back(std::move(c));
    for (OpCase& c : LossCases()) cases.push_back(std::move(c));
    for (OpCase& c : AttentionCases()) cases.push_back(std::move(c));
    for (OpCase& c : HeadOptionCases()) cases.push_back(std::move(c));
    return cases;
  }();
  return table;
}

}  // namespace liger::kernels
