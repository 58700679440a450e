#include "kernels/kept_results.h"

#include <string_view>

namespace liger::kernels {
namespace {

thread_local KeptResults* results = nullptr;
thread_local KeptResults::Run run = KeptResults::Run::kFirst;
thread_local bool keeps = false;

}  // namespace

KeptResults::Scope::Scope(KeptResults& of, Run which)
    : outer_results_(std::exchange(results, &of)), outer_run_(std::exchange(run, which)) {}

KeptResults::Scope::~Scope() {
  results = outer_results_;
  run = outer_run_;
}

KeptResults::Region::Region(bool keeps_here) : outer_(std::exchange(keeps, keeps_here)) {}

KeptResults::Region::~Region() { keeps = outer_; }

KeptResults* KeptResults::Current() { return keeps ? results : nullptr; }

bool KeptResults::IsSecond() { return run == Run::kSecond; }

void KeptResults::Add(const char* op, const std::vector<at::Tensor>& tensors) {
  Entry& entry = entries_.emplace_back(Entry{op, {}});
  // Tensors of their own: what the op returns becomes part of a graph.
  for (const at::Tensor& t : tensors) entry.tensors.push_back(t.defined() ? t.detach() : t);
}

bool KeptResults::Take(const char* op, std::vector<at::Tensor>* tensors) {
  for (size_t i = next_; i < entries_.size(); ++i) {
    if (std::string_view(entries_[i].op) != op) continue;
    *tensors = std::move(entries_[i].tensors);
    next_ = i + 1;
    return true;
  }
  return false;
}

}  // namespace liger::kernels
