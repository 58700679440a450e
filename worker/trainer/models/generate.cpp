#include "worker/trainer/models/generate.h"

#include <algorithm>

#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

// Tokens at [begin, begin + ids.size()) of one sequence.
ModelInput Continuation(std::span<const int32_t> ids, int64_t begin, at::Device device) {
  const int64_t count = static_cast<int64_t>(ids.size());
  const at::Tensor ids_T = at::tensor(at::ArrayRef<int32_t>(ids.data(), ids.size()));
  return {ids_T.to(device, at::kLong),
          at::arange(begin, begin + count, at::TensorOptions(device).dtype(at::kLong)),
          begin + count, SequenceLayout::FromCuSeqlens(at::tensor({int64_t{0}, count}), device)};
}

}  // namespace

std::vector<int32_t> GenerateGreedy(CausalLM& model, std::span<const int32_t> prompt_ids,
                                    int64_t max_new_tokens, std::span<const int64_t> stop_ids,
                                    const AgreeOnToken& agree) {
  TORCH_CHECK(!prompt_ids.empty(), "an empty prompt cannot be continued");
  const at::NoGradGuard no_grad;
  KeyValueCache cache;
  std::vector<int32_t> answer;
  std::span<const int32_t> fresh = prompt_ids;
  int64_t length = 0;
  while (static_cast<int64_t>(answer.size()) < max_new_tokens) {
    const at::Tensor hidden_TD = model.Hidden(Continuation(fresh, length, model.device()), &cache);
    length += static_cast<int64_t>(fresh.size());
    auto next = model.Logits(hidden_TD.slice(0, -1)).argmax(-1).item<int64_t>();
    if (agree) next = agree(next);
    answer.push_back(static_cast<int32_t>(next));
    Tick();
    if (std::find(stop_ids.begin(), stop_ids.end(), next) != stop_ids.end()) break;
    fresh = std::span(answer).last(1);
  }
  return answer;
}

}  // namespace liger::trainer
