#ifndef LIGER_KERNELS_GRADIENT_PLACE_H_
#define LIGER_KERNELS_GRADIENT_PLACE_H_

#include <ATen/core/Tensor.h>

#include <functional>

namespace liger::kernels {

// Memory of a caller's for the gradient of a weight, into which the backward passes of linear and
// gated_linear write their product, where it would else be a new tensor that the caller copies
// there. What autograd hands on is a view of that memory; the values are the same.
//
// Of the weight of which it was made, a leaf, while it lives; one at most of each.
class GradientPlace {
 public:
  // A contiguous tensor of the weight's shape and dtype, whatever it holds; undefined: none this
  // time, as when an earlier one of the same backward pass is not yet added to what comes.
  // Called in the thread of the backward pass.
  using Find = std::function<at::Tensor()>;

  GradientPlace(const at::Tensor& weight, Find find);
  ~GradientPlace();
  GradientPlace(const GradientPlace&) = delete;
  GradientPlace& operator=(const GradientPlace&) = delete;

  // For ops: what the weight's gives, undefined where it has none.
  static at::Tensor Of(const at::Tensor& weight);

 private:
  const at::Tensor weight_;
};

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_GRADIENT_PLACE_H_
