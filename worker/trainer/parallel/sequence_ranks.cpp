#include "worker/trainer/parallel/sequence_ranks.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <string>
#include <utility>
#include <vector>

namespace liger::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// The ranks' connection, which backward passes need, too.
class Ranks : public torch::CustomClassHolder {
 public:
  Ranks(Gang& gang, c10::intrusive_ptr<c10d::Backend> backend)
      : gang_(gang), backend_(std::move(backend)) {}

  at::Tensor AllToAll(const at::Tensor& x) {
    // Bytes, since Gloo does not know every dtype and nothing is computed.
    at::Tensor in = x.contiguous();
    const at::Tensor out = at::empty_like(in);
    at::Tensor in_bytes = in.view(at::kByte), out_bytes = out.view(at::kByte);
    std::vector<int64_t> equal_parts;
    Run("the exchange of tokens for heads", [&] {
      return backend_->alltoall_base(out_bytes, in_bytes, equal_parts, equal_parts);
    });
    return out;
  }

  void Sum(at::Tensor values) {
    std::vector<at::Tensor> tensors = {std::move(values)};
    Run("a sum over the parts of sequences", [&] { return backend_->allreduce(tensors); });
  }

 private:
  template <typename Begin>
  void Run(const char* what, const Begin& begin) {
    gang_.NoteIssued();
    const std::shared_ptr<void> waiting = gang_.WaitForIssued(what);
    try {
      begin()->wait();
    } catch (...) {
      gang_.Explain(std::current_exception());
    }
  }

  Gang& gang_;
  const c10::intrusive_ptr<c10d::Backend> backend_;
};

// What came from a place goes back there: the exchange is its own transpose.
class Exchanged : public torch::autograd::Function<Exchanged> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const c10::intrusive_ptr<Ranks>& ranks) {
    ctx->saved_data["ranks"] = at::IValue::make_capsule(ranks);
    return ranks->AllToAll(x);
  }
  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const auto ranks =
        c10::static_intrusive_pointer_cast<Ranks>(ctx->saved_data["ranks"].toCapsule());
    return {ranks->AllToAll(grads[0]), at::Tensor()};
  }
};

class SequenceRanks : public SequenceGroup {
 public:
  SequenceRanks(int size, int place, c10::intrusive_ptr<Ranks> ranks)
      : size_(size), place_(place), ranks_(std::move(ranks)) {}

  int64_t size() const override { return size_; }
  int64_t place() const override { return place_; }
  at::Tensor Exchange(const at::Tensor& x) const override {
    TORCH_CHECK(x.dim() > 0 && x.size(0) == size_, "expected a part for each of ", size_,
                " places, not ", x.sizes());
    return Exchanged::apply(x, ranks_);
  }
  void Sum(at::Tensor values) const override { ranks_->Sum(std::move(values)); }

 private:
  const int64_t size_, place_;
  const c10::intrusive_ptr<Ranks> ranks_;
};

}  // namespace

std::string DescribeSequenceGroups(int size) {
  return size <= 1 ? "" : ", of which each " + std::to_string(size) + " share the tokens of a row";
}

std::shared_ptr<const SequenceGroup> MakeSequenceGroup(Gang& gang, int size) {
  if (size <= 1) return nullptr;
  const int rank = gang.rank().rank, place = rank % size;
  TORCH_CHECK(gang.rank().world_size % size == 0, "groups of ", size, " among ",
              gang.rank().world_size, " ranks");
  auto backend = gang.MakeGroup("sequence" + std::to_string(rank / size), place, size);
  return std::make_shared<const SequenceRanks>(
      size, place, c10::make_intrusive<Ranks>(gang, std::move(backend)));
}

}  // namespace liger::trainer
