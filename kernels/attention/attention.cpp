#include "kernels/attention/attention.h"

#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/attention/backends.h"
#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/record.h"
#include "kernels/common/unit_stride.h"

namespace liger::kernels {

int64_t AttentionSpans::Length(const std::vector<int64_t>& offsets, int64_t s) {
  const auto i = static_cast<size_t>(s);
  return offsets[i + 1] - offsets[i];
}

int64_t AttentionSpans::Longest(const std::vector<int64_t>& offsets) {
  int64_t longest = 0;
  for (size_t i = 1; i < offsets.size(); ++i) {
    longest = std::max(longest, offsets[i] - offsets[i - 1]);
  }
  return longest;
}

void CheckHeads(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                const at::Tensor& value_TKH) {
  const Arg query{kAttention, "query", query_QNH}, key{kAttention, "key", key_TKH},
      value{kAttention, "value", value_TKH};
  CheckFloating(query);
  for (const Arg& arg : {query, key, value}) {
    CheckDim(arg, 3);
    CheckSameDtype(arg, query);
    CheckSameDevice(arg, query);
  }
  CheckShape(value, key_TKH.sym_sizes(), "key's shape");
  const int64_t heads = query_QNH.size(1), key_heads = key_TKH.size(1);
  TORCH_CHECK(key_TKH.size(2) == query_QNH.size(2), kAttention, ": key has shape ", key_TKH.sizes(),
              ", query ", query_QNH.sizes(), "; the last dimensions differ");
  TORCH_CHECK(key_heads > 0 && heads % key_heads == 0, kAttention, ": query has ", heads,
              " heads, which is no multiple of key's ", key_heads);
}

void CheckOptions(const AttentionOptions& options) {
  // Kernels compute in float32, where a smaller one than that would be none.
  constexpr double kLeast = std::numeric_limits<float>::min(),
                   kMost = std::numeric_limits<float>::max();
  // With others PyTorch's fused kernels multiply the mask's infinities to NaN.
  TORCH_CHECK_VALUE(options.scale >= kLeast && options.scale <= kMost, kAttention, ": scale is ",
                    options.scale, ", expected a positive number of float32 (1 / sqrt(H) in most ",
                    "models)");
  TORCH_CHECK_VALUE(options.window >= 0, kAttention, ": window is ", options.window,
                    ", expected 0 (none) or more");
  TORCH_CHECK_VALUE(options.softcap == 0 || (options.softcap >= kLeast && options.softcap <= kMost),
                    kAttention, ": softcap is ", options.softcap,
                    ", expected 0 (none) or a positive number of float32");
}

void CheckBackward(const at::Tensor& grad_QNH, const at::Tensor& query_QNH,
                   const at::Tensor& out_QNH, const at::Tensor& stats,
                   c10::SymIntArrayRef stats_shape, const char* meaning) {
  const Arg query{kAttention, "query", query_QNH}, stats_arg{kAttention, "stats", stats};
  for (const Arg& arg : {Arg{kAttention, "grad", grad_QNH}, Arg{kAttention, "out", out_QNH}}) {
    CheckShape(arg, query_QNH.sym_sizes(), "query's shape");
    CheckSameDtype(arg, query);
    CheckSameDevice(arg, query);
    CheckContiguous(arg);
  }
  CheckDtype(stats_arg, at::kFloat);
  CheckShape(stats_arg, stats_shape, meaning);
  CheckSameDevice(stats_arg, query);
  CheckContiguous(stats_arg);
}

namespace {

constexpr const char* kOp = kAttention;

struct Backend {
  AttentionBackend id;
  std::string_view name;
  bool (*takes)(const AttentionCall&);
  at::Tensor (*run)(const AttentionCall&);  // undefined: not this case after all
};

bool TakesAll(const AttentionCall&) { return true; }

// Fastest first.
constexpr std::array<Backend, 5> kBackends = {{
    {AttentionBackend::kCudnn, "cudnn", CudnnTakes, CudnnAttention},
    {AttentionBackend::kFlash, "flash", FlashTakes, FlashAttention},
    {AttentionBackend::kTiled, "tiled", TiledTakes, TiledAttention},
    {AttentionBackend::kCpuFlash, "cpu_flash", CpuFlashTakes, CpuFlashAttention},
    {AttentionBackend::kPlain, "plain", TakesAll, PlainAttention},
}};
constexpr std::string_view kAutoName = "auto";

at::Tensor RunOn(const AttentionCall& call, std::string_view name) {
  for (const Backend& backend : kBackends) {
    if (name != kAutoName && name != backend.name) continue;
    const at::Tensor out_QNH = backend.takes(call) ? backend.run(call) : at::Tensor();
    if (out_QNH.defined()) return out_QNH;
    TORCH_CHECK(name == kAutoName, kOp, ": backend '", backend.name, "' does not take ",
                call.query_QNH.scalar_type(), " on ", call.query_QNH.device(), " with head size ",
                call.query_QNH.size(2), ", window ", call.options.window, ", softcap ",
                call.options.softcap, " and these sequences; use 'auto'");
  }
  TORCH_CHECK_VALUE(false, kOp, ": backend is '", name,
                    "', expected auto, cudnn, flash, tiled, cpu_flash or plain");
}

void CheckOffsets(const char* name, const std::vector<int64_t>& offsets, const Arg& tokens) {
  TORCH_CHECK(!offsets.empty() && offsets.front() == 0, kOp, ": ", name, " must begin with 0");
  TORCH_CHECK(std::ranges::is_sorted(offsets), kOp, ": ", name, " must not fall: ", offsets);
  TORCH_CHECK(offsets.back() == tokens.tensor.size(0), kOp, ": ", tokens.name, " has shape ",
              tokens.tensor.sizes(), ", but ", name, " ends at ", offsets.back());
}

void CheckSpans(const AttentionCall& call) {
  const AttentionSpans& spans = call.spans;
  CheckOffsets("query_offsets", spans.query_offsets, {kOp, "query", call.query_QNH});
  CheckOffsets("key_offsets", spans.key_offsets, {kOp, "key", call.key_TKH});
  TORCH_CHECK(spans.query_offsets.size() == spans.key_offsets.size(), kOp, ": query_offsets has ",
              spans.query_offsets.size(), " entries, key_offsets ", spans.key_offsets.size());
  for (int64_t s = 0; s < spans.size(); ++s) {
    TORCH_CHECK(spans.num_queries(s) <= spans.num_keys(s), kOp, ": sequence ", s, " has ",
                spans.num_queries(s), " queries and only ", spans.num_keys(s), " keys");
  }
}

void CheckCuSeqlens(const char* name, const at::Tensor& cu_seqlens, const AttentionCall& call) {
  if (!cu_seqlens.defined()) return;
  const Arg arg{kOp, name, cu_seqlens};
  CheckDtype(arg, at::kInt);
  CheckShape(arg, {call.spans.size() + 1}, "[S + 1]");
  CheckSameDevice(arg, {kOp, "query", call.query_QNH});
  CheckContiguous(arg);
}

void Check(const AttentionCall& call) {
  CheckHeads(call.query_QNH, call.key_TKH, call.value_TKH);
  CheckSpans(call);
  CheckCuSeqlens("query_cu_seqlens", call.spans.query_cu_seqlens, call);
  CheckCuSeqlens("key_cu_seqlens", call.spans.key_cu_seqlens, call);
  CheckOptions(call.options);
}

at::Tensor Run(const at::Tensor& query_in, const at::Tensor& key_in, const at::Tensor& value_in,
               at::IntArrayRef query_offsets, at::IntArrayRef key_offsets, double scale,
               int64_t window, double softcap, c10::string_view backend,
               const std::optional<at::Tensor>& query_cu_seqlens,
               const std::optional<at::Tensor>& key_cu_seqlens) {
  AttentionSpans spans{query_offsets.vec(), key_offsets.vec(),
                       query_cu_seqlens.value_or(at::Tensor()),
                       key_cu_seqlens.value_or(at::Tensor())};
  AttentionOptions options{scale, window, softcap};
  Check({query_in, key_in, value_in, spans, options});
  const at::Tensor query = WithUnitStride(query_in), key = WithUnitStride(key_in);
  const at::Tensor value = WithUnitStride(value_in);
  const AttentionCall call{query, key, value, spans, options};
  // A window that hides nothing is none.
  if (options.window >= spans.max_keys()) options.window = 0;
  RecordPath(Op::kAttention, Path::kAten);
  if (query.size(0) == 0) return (query + 0 * (key.sum() + value.sum())).contiguous();
  return RunOn(call, std::string_view(backend.data(), backend.size()));
}

// A composition: every backend has a gradient of its own, and shapes follow from its ops.
TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "attention(Tensor query, Tensor key, Tensor value, int[] query_offsets, int[] key_offsets, "
      "float scale, int window=0, float softcap=0.0, str backend='auto', "
      "Tensor? query_cu_seqlens=None, Tensor? key_cu_seqlens=None) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(liger, CompositeImplicitAutograd, m) { m.impl("attention", Run); }

std::string_view NameOf(AttentionBackend id) {
  const auto* found = std::ranges::find(kBackends, id, &Backend::id);
  return found == kBackends.end() ? kAutoName : found->name;
}

}  // namespace

at::Tensor Attention(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                     const at::Tensor& value_TKH, const AttentionSpans& spans,
                     const AttentionOptions& options, AttentionBackend backend) {
  static const auto op = FindOp<decltype(Run)>("liger::attention");
  const auto given = [](const at::Tensor& t) {
    return t.defined() ? std::optional(t) : std::nullopt;
  };
  const std::string_view name = NameOf(backend);
  return op.call(query_QNH, key_TKH, value_TKH, spans.query_offsets, spans.key_offsets,
                 options.scale, options.window, options.softcap, {name.data(), name.size()},
                 given(spans.query_cu_seqlens), given(spans.key_cu_seqlens));
}

}  // namespace liger::kernels
