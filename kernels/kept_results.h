#ifndef LIGER_KERNELS_KEPT_RESULTS_H_
#define LIGER_KERNELS_KEPT_RESULTS_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace liger::kernels {

// Results of ops in a part of a model that runs twice, the second time for its gradients
// (activation checkpointing): linear and attention add theirs in the first run, and in the second
// take them from here instead of computing them again. Nothing changes but the time: they are the
// same bits. What an op's result is must not be written to in between.
class KeptResults {
 public:
  struct Entry {
    const char* op;                   // which, and by which backend; static storage
    std::vector<at::Tensor> tensors;  // as the op makes them; some may be undefined
  };
  enum class Run { kFirst, kSecond };

  // While it lives, this thread's run is one of these results; of several the last made.
  class Scope {
   public:
    Scope(KeptResults& results, Run run);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    KeptResults* outer_results_;
    Run outer_run_;
  };

  // Where results are kept: nowhere but while a Region(true) lives, and none made after it is a
  // Region(false).
  class Region {
   public:
    explicit Region(bool keeps);
    ~Region();
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;

   private:
    bool outer_;
  };

  std::vector<Entry>& entries() { return entries_; }

  // compute(), a vector of tensors, or what the first run's call of this op came to. For ops, in
  // the forward function of their autograd node; the order of calls is the same in both runs.
  // A call whose result is not there (the first run took another way) computes it.
  template <typename Compute>
  static std::vector<at::Tensor> Of(const char* op, const Compute& compute) {
    KeptResults* const results = Current();
    if (results == nullptr) return compute();
    if (IsSecond()) {
      std::vector<at::Tensor> kept;
      return results->Take(op, &kept) ? kept : compute();
    }
    std::vector<at::Tensor> made = compute();
    results->Add(op, made);
    return made;
  }

 private:
  // Null outside of a Scope and a Region.
  static KeptResults* Current();
  static bool IsSecond();
  void Add(const char* op, const std::vector<at::Tensor>& tensors);
  bool Take(const char* op, std::vector<at::Tensor>* tensors);

  std::vector<Entry> entries_;
  size_t next_ = 0;
};

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_KEPT_RESULTS_H_
