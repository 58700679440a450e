#ifndef LIGER_WORKER_TRAINER_OPTIM_PARAMETERS_H_
#define LIGER_WORKER_TRAINER_OPTIM_PARAMETERS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/trainer/gradient_sum.h"
#include "worker/trainer/optim/precision.h"

namespace liger::trainer {

// The trainable parameters of a model as the optimizer sees them, by name.
// Applies a PrecisionPlan from outside: the model keeps one set of leaves (in
// the compute dtype), the optimizer updates another (in the storage dtype)
// where the two differ, and gradients accumulate in the gradient dtype.
class TrainableParameters {
 public:
  // Of what is sharded over ranks: the elements [begin, begin + storage.numel()) of a parameter
  // of that shape; begin is a multiple of 256.
  struct Part {
    std::vector<int64_t> shape;
    int64_t begin = 0;
  };
  struct Entry {
    std::string name;
    at::Tensor storage;  // what the optimizer updates and what is saved
    at::Tensor compute;  // the model's leaf; the same tensor unless plan.has_compute_copy()
    bool decay = true;   // weight decay applies: false for norms and biases
    std::optional<Part> part;  // nullopt: storage is the whole parameter

    // Elements of the whole parameter.
    int64_t whole_numel() const;
  };

  // `leaves` are the model's parameters with their names, holding their values
  // in plan.storage. Where compute differs, each leaf's data is replaced by a
  // copy in the compute dtype. Parameters without requires_grad are skipped.
  // Where the gradient dtype differs from compute's, hooks on the leaves move
  // each gradient into the accumulation buffer as soon as it is complete, so
  // that both dtypes' gradients never exist at once for the whole model. Leaves
  // for whose name `keeps_storage` is true are computed with in plan.storage.
  TrainableParameters(const std::vector<std::pair<std::string, at::Tensor>>& leaves,
                      const PrecisionPlan& plan,
                      const std::function<bool(std::string_view)>& keeps_storage = nullptr);
  virtual ~TrainableParameters() = default;
  TrainableParameters(const TrainableParameters&) = delete;
  TrainableParameters& operator=(const TrainableParameters&) = delete;

  const std::vector<Entry>& entries() const { return entries_; }

  // For an op that adds a leaf's gradient up by itself over the micro-batches
  // (a fused head), beside what autograd gives that leaf: an fp32 tensor of the
  // leaf's shape, the same one until ZeroGradients. The first call after that makes it
  // and leaves it unwritten (is_new): the caller lets the op write over it, or settles
  // it before a backward pass or anything below. Where
  // gradients accumulate in fp32 it is the very tensor that autograd adds to;
  // elsewhere a buffer, which Gradients() adds in with a single rounding.
  // nullopt when the leaf is not trained.
  virtual std::optional<GradientSum> DirectGradient(const at::Tensor& leaf);

  // DirectGradient(leaf) of this step is whole, and nothing else adds to the leaf's gradient:
  // rounds it now, so that its fp32 buffer does not stand beside all other gradients at the end of
  // the backward pass. Gradients() then gives the same.
  virtual void FinishDirectGradient(const at::Tensor& leaf);

  // Gradient of each entry, in order; undefined where there is none. To be
  // called once a step, after the last backward.
  virtual std::vector<at::Tensor> Gradients();
  // Of one entry, once nothing more is added to it in this step.
  at::Tensor Gradient(size_t index);
  // Takes `gradient`, in the gradient dtype, in its place; undefined: there is none.
  void SetGradient(size_t index, at::Tensor gradient);

  // `listener` is called with an entry's index whenever a backward pass has added to its gradient
  // and will not do so again, in the thread of that pass, and by FinishDirectGradient.
  void ListenToGradients(std::function<void(size_t)> listener);
  // Of the entry whose leaf this is; nullopt: it is not trained.
  std::optional<size_t> IndexOf(const at::Tensor& leaf) const;
  // To be called after each backward pass.
  virtual void FinishBackward() {}
  // Releases the gradients' memory, after the optimizer's step.
  virtual void ZeroGradients();
  // Copies storage to compute; needed after each change of storage that did not
  // do so itself.
  virtual void RefreshCompute();

  // Adds `values`, of any device, up over the ranks that have the other parts of the same
  // parameters, in place. Collective; does nothing where parameters are whole. `what`: for
  // messages.
  virtual void SumOverParts(at::Tensor values, const char* what) {}

  // Elements of all parameters that are trained, those of other ranks' parts, too.
  virtual int64_t numel() const;

  at::ScalarType gradient_dtype() const { return gradient_dtype_; }

 protected:
  // Of entries that are their own leaves, whose gradients a subclass has.
  explicit TrainableParameters(std::vector<Entry> entries);

 private:
  // Moves autograd's gradient to the accumulation buffer, where there is one, and tells the
  // listener.
  void AttachHook(size_t index);
  // Rounds DirectGradient's buffer into the gradient.
  void Round(size_t index, const at::Tensor& sum);
  // That, if there is one.
  void RoundDirect(size_t index);
  // Where the entry's gradient adds up.
  at::Tensor& Accumulator(size_t index);

  std::vector<Entry> entries_;
  at::ScalarType gradient_dtype_;
  bool external_gradients_;
  // By entry; used when external_gradients_. Shared with the leaves' hooks.
  std::vector<std::shared_ptr<at::Tensor>> accumulated_;
  // Shared with the leaves' hooks; empty: nobody listens.
  std::shared_ptr<std::function<void(size_t)>> listener_;
  // DirectGradient's buffers by entry; used when gradient_dtype_ is not fp32.
  std::map<size_t, at::Tensor> direct_;
};

// Weight decay is left out for biases and for one-dimensional weights (norms'
// scales), as transformers' Trainer does.
bool WeightDecayApplies(const std::string& name, const at::Tensor& parameter);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_PARAMETERS_H_
