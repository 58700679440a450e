#include "worker/trainer/parallel/fsdp/flat_parameter.h"

#include <ATen/ATen.h>
#include <c10/core/StorageImpl.h>

namespace liger::trainer {
namespace {

FlatLayout LayoutOf(const std::vector<FlatParameter::Leaf>& leaves, int64_t ranks) {
  std::vector<FlatLayout::Item> items;
  for (const auto& leaf : leaves) items.push_back({leaf.name, leaf.tensor.sizes().vec()});
  return {std::move(items), ranks};
}

c10::Storage StorageWithoutMemory(int64_t bytes, at::Device device) {
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes,
                                               at::DataPtr(nullptr, device), /*allocator=*/nullptr,
                                               /*resizable=*/false);
}

at::Tensor View(const c10::Storage& storage, const at::TensorOptions& options, int64_t offset,
                at::IntArrayRef shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * shape[d];
  return at::empty({0}, options).set_(storage, offset, shape, strides);
}

}  // namespace

FlatParameter::FlatParameter(std::vector<Leaf> leaves, at::ScalarType stored,
                             at::ScalarType gathered, int64_t rank, int64_t ranks,
                             const ShardHome& home)
    : gathered_(gathered),
      trained_(leaves.front().tensor.requires_grad()),
      home_(home),
      rank_(rank),
      layout_(LayoutOf(leaves, ranks)) {
  const at::NoGradGuard no_grad;
  grad_written.assign(leaves.size(), false);
  grad_lent.assign(leaves.size(), false);
  for (Leaf& leaf : leaves) leaves_.push_back(std::move(leaf.tensor));
  storage_ = StorageWithoutMemory(gathered_bytes(), home_.device());
  whole_ = View(storage_, at::TensorOptions(home_.device()).dtype(gathered_), 0, {layout_.numel()});
  // Zeros where no parameter is: what fills up is never NaN.
  shard_ = home_.Zeros(layout_.shard_numel(), stored);
}

void FlatParameter::CopyValues(size_t item) {
  const at::NoGradGuard no_grad;
  const FlatLayout::Slice slice = layout_.SliceOf(item, rank_);
  if (slice.count == 0) return;
  shard_.narrow(0, slice.at, slice.count)
      .copy_(leaves_[item].detach().contiguous().view(-1).narrow(0, slice.begin, slice.count));
}

void FlatParameter::Bind(size_t item, at::Tensor leaf) const {
  const at::NoGradGuard no_grad;
  const FlatLayout::Item& place = layout_.items()[item];
  leaf.set_data(View(storage_, at::TensorOptions(home_.device()).dtype(gathered_), place.offset,
                     place.shape));
}

at::Tensor FlatParameter::SliceOf(size_t item, const at::Tensor& of) const {
  const FlatLayout::Slice slice = layout_.SliceOf(item, rank_);
  return of.narrow(0, slice.at, slice.count);
}

int64_t FlatParameter::gathered_bytes() const {
  return layout_.numel() * static_cast<int64_t>(c10::elementSize(gathered_));
}

void FlatParameter::Lend(void* memory) {
  storage_.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(memory, home_.device()));
}

at::Tensor FlatParameter::own_part() const {
  return whole_.narrow(0, rank_ * layout_.shard_numel(), layout_.shard_numel());
}

at::Tensor FlatParameter::GradientOf(size_t item) const {
  const FlatLayout::Item& place = layout_.items()[item];
  return grad_whole.narrow(0, place.offset, place.numel).view(place.shape);
}

void FlatParameter::AddGradient(size_t item, const at::Tensor& grad) {
  if (!grad.defined()) return;
  const at::Tensor place = GradientOf(item);
  if (grad_written[item]) {
    place.add_(grad);
  } else if (grad.data_ptr() != place.data_ptr()) {
    place.copy_(grad);
  }
  grad_written[item] = true;
}

at::Tensor FlatParameter::PlaceForGradient(size_t item) {
  if (grad_written[item] || grad_lent[item]) return {};
  grad_lent[item] = true;
  return GradientOf(item);
}

void FlatParameter::ForgetGradient() {
  grad_written.assign(leaves_.size(), false);
  grad_lent.assign(leaves_.size(), false);
}

void FlatParameter::ZeroTheRest() {
  for (size_t item = 0; item < leaves_.size(); ++item) {
    if (!grad_written[item]) GradientOf(item).zero_();
  }
}

}  // namespace liger::trainer
