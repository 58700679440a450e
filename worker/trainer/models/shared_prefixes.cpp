#include "worker/trainer/models/shared_prefixes.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <numeric>
#include <span>

namespace liger::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;
using Sequence = std::span<const int64_t>;

constexpr int64_t kLeastSaving = 32;  // one token in so many

int64_t CommonPrefix(Sequence a, Sequence b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// The sequences in lexicographic order: a sequence's longest common prefix with
// any before it is the one with its neighbour.
std::vector<size_t> Sorted(const std::vector<Sequence>& sequences) {
  std::vector<size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::ranges::lexicographical_compare(sequences[a], sequences[b]);
  });
  return order;
}

std::vector<Sequence> Split(const at::Tensor& input_ids_T, const std::vector<int64_t>& offsets) {
  const Sequence ids(input_ids_T.const_data_ptr<int64_t>(), input_ids_T.numel());
  std::vector<Sequence> sequences;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    sequences.push_back(ids.subspan(offsets[s], offsets[s + 1] - offsets[s]));
  }
  return sequences;
}

// SharedPrefixes' maps, on the host.
struct Maps {
  std::vector<int64_t> computed_T, owner_U, repeat_M, slot_M, repeated_R;
};

Maps MakeMaps(const std::vector<size_t>& order, const std::vector<int64_t>& offsets,
              const SharedPrefixes& shared) {
  Maps maps;
  maps.computed_T.resize(offsets.back());
  maps.owner_U.resize(shared.num_computed());
  const int64_t* before = nullptr;  // computed_T of the sequence before in `order`
  for (const size_t s : order) {
    int64_t* computed = maps.computed_T.data() + offsets[s];
    const int64_t prefix = shared.prefix_S[s], length = offsets[s + 1] - offsets[s];
    std::copy_n(before, prefix, computed);
    for (int64_t i = prefix; i < length; ++i) {
      computed[i] = shared.own_offsets_S1[s] + i - prefix;
      maps.owner_U[computed[i]] = offsets[s] + i;
    }
    before = computed;
  }
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    for (int64_t t = offsets[s]; t < offsets[s] + shared.prefix_S[s]; ++t) {
      maps.repeat_M.push_back(t);
      maps.repeated_R.push_back(maps.computed_T[t]);
    }
  }
  maps.slot_M = maps.repeated_R;
  std::ranges::sort(maps.repeated_R);
  const auto rest = std::ranges::unique(maps.repeated_R);
  maps.repeated_R.erase(rest.begin(), rest.end());
  for (int64_t& slot : maps.slot_M) {
    slot = std::ranges::lower_bound(maps.repeated_R, slot) - maps.repeated_R.begin();
  }
  return maps;
}

at::Tensor ToDevice(const std::vector<int64_t>& values, at::Device device,
                    at::ScalarType dtype = at::kLong) {
  return at::tensor(values, at::kLong).to(device, dtype, /*non_blocking=*/true);
}

class ToAllTokensFunction : public torch::autograd::Function<ToAllTokensFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_U,
                            const SharedPrefixes& shared) {
    ctx->save_for_backward({shared.owner_U, shared.repeat_M, shared.slot_M, shared.repeated_R});
    return x_U.index_select(0, shared.computed_T);
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const tensor_list saved = ctx->get_saved_variables();
    const at::Tensor &owner_U = saved[0], &repeat_M = saved[1], &slot_M = saved[2],
                     &repeated_R = saved[3];
    const at::Tensor& grad_T = grads[0];
    at::Tensor grad_U = grad_T.index_select(0, owner_U);
    const auto sum_dtype = grad_U.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor sums_R = grad_U.index_select(0, repeated_R).to(sum_dtype);
    sums_R.index_add_(0, slot_M, grad_T.index_select(0, repeat_M).to(sum_dtype));
    grad_U.index_copy_(0, repeated_R, sums_R.to(grad_U.scalar_type()));
    return {grad_U, at::Tensor()};
  }
};

}  // namespace

std::shared_ptr<const SharedPrefixes> SharedPrefixes::Find(const at::Tensor& input_ids_T,
                                                           const std::vector<int64_t>& offsets_S1,
                                                           at::Device device) {
  TORCH_CHECK(input_ids_T.is_cpu() && input_ids_T.scalar_type() == at::kLong &&
                  input_ids_T.numel() == offsets_S1.back(),
              "input_ids must be the layout's ", offsets_S1.back(), " int64 ids on the host, got ",
              input_ids_T.sizes(), " ", input_ids_T.scalar_type());
  const std::vector<Sequence> sequences = Split(input_ids_T.contiguous(), offsets_S1);
  const std::vector<size_t> order = Sorted(sequences);
  auto shared = std::make_shared<SharedPrefixes>();
  shared->prefix_S.assign(sequences.size(), 0);
  int64_t saved = 0;
  for (size_t i = 1; i < order.size(); ++i) {
    const Sequence sequence = sequences[order[i]];
    const int64_t length = static_cast<int64_t>(sequence.size());
    const int64_t common = CommonPrefix(sequences[order[i - 1]], sequence);
    shared->prefix_S[order[i]] = std::max<int64_t>(0, std::min(common, length - 1));
    saved += shared->prefix_S[order[i]];
  }
  if (saved == 0 || saved * kLeastSaving < offsets_S1.back()) return nullptr;

  shared->own_offsets_S1 = {0};
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t own = static_cast<int64_t>(sequences[s].size()) - shared->prefix_S[s];
    shared->own_offsets_S1.push_back(shared->own_offsets_S1.back() + own);
    shared->max_own = std::max(shared->max_own, own);
  }
  const Maps maps = MakeMaps(order, offsets_S1, *shared);
  shared->own_cu_seqlens_S1 = ToDevice(shared->own_offsets_S1, device, at::kInt);
  shared->computed_T = ToDevice(maps.computed_T, device);
  shared->owner_U = ToDevice(maps.owner_U, device);
  shared->repeat_M = ToDevice(maps.repeat_M, device);
  shared->slot_M = ToDevice(maps.slot_M, device);
  shared->repeated_R = ToDevice(maps.repeated_R, device);
  return shared;
}

at::Tensor ToAllTokens(const at::Tensor& x_U, const SharedPrefixes& shared) {
  return ToAllTokensFunction::apply(x_U, shared);
}

}  // namespace liger::trainer
