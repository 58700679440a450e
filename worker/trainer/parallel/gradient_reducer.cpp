#include "worker/trainer/parallel/gradient_reducer.h"

#include <ATen/ATen.h>

#include <utility>

#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

// Elements that each gradient's place in a bucket begins at a multiple of, so that vectorised
// code can go on from there.
constexpr int64_t kAlignment = 64;

}  // namespace

GradientReducer::GradientReducer(TrainableParameters& parameters, Gang& gang,
                                 const Options& options)
    : parameters_(parameters), gang_(gang), options_(options) {
  MakeBuckets();
  parameters_.ListenToGradients([this](size_t index) { OnGradient(index); });
}

GradientReducer::~GradientReducer() { parameters_.ListenToGradients(nullptr); }

void GradientReducer::MakeBuckets() {
  const auto& entries = parameters_.entries();
  bucket_of_.resize(entries.size());
  whole_.assign(entries.size(), false);
  present_.assign(entries.size(), false);
  const int64_t most = options_.bucket_bytes / int64_t(c10::elementSize(options_.dtype));
  const auto add = [&](size_t index) {
    const int64_t numel = entries[index].storage.numel();
    if (buckets_.empty() || buckets_.back().numel + numel > most) buckets_.emplace_back();
    Bucket& bucket = buckets_.back();
    bucket.slots.push_back({index, bucket.numel, numel});
    bucket.numel += (numel + kAlignment - 1) / kAlignment * kAlignment;
    bucket_of_[index] = buckets_.size() - 1;
  };
  for (size_t i = entries.size(); i-- > 0;) add(i);
  for (Bucket& bucket : buckets_) bucket.unfinished = bucket.slots.size();
}

void GradientReducer::OnGradient(size_t index) {
  Tick();
  if (!armed_ || (whole_[index] && options_.finished_before.contains(index))) return;
  TORCH_CHECK(bucket_of_[index] >= sent_, "the gradient of ", parameters_.entries()[index].name,
              " changed after it was sent to the other ranks");
  if (whole_[index]) return;
  whole_[index] = true;
  --buckets_[bucket_of_[index]].unfinished;
  while (sent_ < buckets_.size() && buckets_[sent_].unfinished == 0) {
    Send(buckets_[sent_]);
    ++sent_early_;
  }
}

at::Tensor GradientReducer::View(const Bucket& bucket, const Slot& slot) const {
  return bucket.flat.narrow(0, slot.begin, slot.numel)
      .view(parameters_.entries()[slot.index].storage.sizes());
}

void GradientReducer::Send(Bucket& bucket) {
  const at::NoGradGuard no_grad;
  const at::Device device = parameters_.entries()[bucket.slots[0].index].storage.device();
  bucket.flat = at::empty({bucket.numel}, at::TensorOptions(device).dtype(options_.dtype));
  std::vector<at::Tensor> to, from;
  for (const Slot& slot : bucket.slots) {
    const at::Tensor gradient = parameters_.Gradient(slot.index);
    present_[slot.index] = gradient.defined();
    const at::Tensor view = View(bucket, slot);
    if (!gradient.defined()) {
      view.zero_();
      continue;
    }
    to.push_back(view);
    from.push_back(gradient);
    // The sum takes its place, and its memory is free.
    if (gradient.scalar_type() == options_.dtype) parameters_.SetGradient(slot.index, view);
  }
  if (!to.empty()) at::_foreach_copy_(to, from);
  bucket.sum = gang_.SumLater(bucket.flat);
  ++sent_;
}

at::Tensor GradientReducer::CountPresent() {
  at::Tensor counts = at::zeros({std::ssize(present_)}, at::kInt);
  auto* values = counts.mutable_data_ptr<int32_t>();
  for (const bool present : present_) *values++ = present;
  gang_.Sum(counts, "the list of gradients");
  return counts;
}

void GradientReducer::Take(Bucket& bucket, const at::Tensor& present) {
  const auto* ranks = present.const_data_ptr<int32_t>();
  for (const Slot& slot : bucket.slots) {
    const at::Tensor gradient = parameters_.Gradient(slot.index);
    const at::Tensor sum = View(bucket, slot);
    if (ranks[slot.index] == 0) continue;
    if (gradient.defined() && gradient.scalar_type() != options_.dtype) {
      gradient.copy_(sum);
    } else if (!gradient.defined()) {
      parameters_.SetGradient(slot.index, sum.to(parameters_.gradient_dtype()));
    }
  }
}

std::vector<at::Tensor> GradientReducer::Finish() {
  const at::NoGradGuard no_grad;
  while (sent_ < buckets_.size()) Send(buckets_[sent_]);
  const at::Tensor present = CountPresent();
  for (Bucket& bucket : buckets_) {
    gang_.Wait(bucket.sum, "the gradients");
    Take(bucket, present);
    bucket.flat.reset();
    bucket.sum = {};
    bucket.unfinished = bucket.slots.size();
  }
  whole_.assign(whole_.size(), false);
  present_.assign(present_.size(), false);
  armed_ = false;
  sent_ = 0;
  sent_early_last_ = std::exchange(sent_early_, 0);
  return parameters_.Gradients();
}

}  // namespace liger::trainer
