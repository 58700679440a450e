#include "worker/trainer/loop/host_copies.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>
#include <map>
#include <tuple>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/host_resources.h"
#include "worker/trainer/error.h"
#include "worker/trainer/pinned_memory.h"

namespace liger::trainer {
namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kBlock = int64_t{1} << 30;

int64_t Aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Two tensors are the same one if they say the same of the same memory.
using Identity =
    std::tuple<const void*, at::ScalarType, std::vector<int64_t>, std::vector<int64_t>>;

Identity IdentityOf(const at::Tensor& tensor) {
  return {tensor.const_data_ptr(), tensor.scalar_type(), tensor.sizes().vec(),
          tensor.strides().vec()};
}

// Of this process.
int64_t BoundFromEnvironment() {
  const char* text = std::getenv("LIGER_CHECKPOINT_MEMORY");
  int64_t bytes = 0;
  return text != nullptr && absl::SimpleAtoi(text, &bytes) ? bytes
                                                           : std::numeric_limits<int64_t>::max();
}

}  // namespace

int64_t HostCopies::held_bytes() const {
  int64_t bytes = 0;
  for (const at::Tensor& block : blocks_) bytes += block.numel();
  return bytes;
}

std::vector<HostCopies::Place> HostCopies::PlacesFor(const std::vector<int64_t>& bytes,
                                                     std::vector<int64_t>* new_blocks) const {
  std::vector<int64_t> room;
  for (const at::Tensor& block : blocks_) room.push_back(block.numel());
  std::vector<int64_t> sizes = room;
  int64_t rest = 0;
  for (const int64_t one : bytes) rest += Aligned(one);
  std::vector<Place> places;
  for (const int64_t one : bytes) {
    const int64_t needed = Aligned(one);
    size_t block = 0;
    while (block < room.size() && room[block] < needed) ++block;
    if (block == room.size()) {
      int64_t size = std::max(needed, std::min(rest, kBlock));
      // PyTorch gives pinned memory in powers of two.
      if (!device_.is_cpu()) size = int64_t(std::bit_ceil(static_cast<uint64_t>(size)));
      new_blocks->push_back(size);
      room.push_back(size);
      sizes.push_back(size);
    }
    places.push_back({block, sizes[block] - room[block]});
    room[block] -= needed;
    rest -= needed;
  }
  return places;
}

bool HostCopies::Allocate(const std::vector<int64_t>& new_blocks, std::string* why) {
  if (new_blocks.empty()) return true;
  int64_t more = 0;
  for (const int64_t size : new_blocks) more += size;
  if (held_bytes() + more > BoundFromEnvironment()) {
    *why = absl::StrCat("a copy takes ", Bytes(held_bytes() + more),
                        " of host memory, more than LIGER_CHECKPOINT_MEMORY allows");
    return false;
  }
  const int64_t all = AvailableMemoryBytes();
  const std::optional<int64_t> used = UsedMemoryBytes();
  // Some is left to everything else.
  const int64_t free = used ? all - *used - all / 32 : -1;
  if (free < more * copies_on_host_) {
    *why = absl::StrCat("a copy takes ", Bytes(more * copies_on_host_),
                        " more of the host's memory, of which ",
                        used ? absl::StrCat(Bytes(std::max<int64_t>(0, free)), " are free")
                             : "the kernel does not say how much is in use");
    return false;
  }
  const size_t before = blocks_.size();
  try {
    for (const int64_t size : new_blocks) {
      blocks_.push_back(PinnedMemory(size, at::kByte, device_));
    }
  } catch (const TrainerError& error) {
    blocks_.resize(before);
    *why = absl::StrCat("there is no memory for a copy: ", error.what());
    return false;
  } catch (const c10::Error& error) {
    if (!device_.is_cpu()) throw;
    blocks_.resize(before);
    *why = absl::StrCat("the host gives no memory for a copy: ", error.what_without_backtrace());
    return false;
  }
  return true;
}

HostCopies::Distinct HostCopies::DistinctOf(const std::vector<at::Tensor*>& tensors) {
  std::map<Identity, size_t> known;
  Distinct distinct;
  for (const at::Tensor* tensor : tensors) {
    const auto [it, is_new] = known.try_emplace(IdentityOf(*tensor), distinct.tensors.size());
    distinct.of_given.push_back(it->second);
    if (!is_new) continue;
    distinct.tensors.push_back(tensor->detach());
    distinct.bytes.push_back(tensor->numel() * static_cast<int64_t>(tensor->element_size()));
  }
  return distinct;
}

void HostCopies::Reserve(const std::vector<at::Tensor*>& tensors) {
  if (device_.is_cpu()) return;
  std::vector<int64_t> new_blocks;
  PlacesFor(DistinctOf(tensors).bytes, &new_blocks);
  reserving_ = std::async(std::launch::async, [this, new_blocks] {
    const c10::DeviceGuard guard(device_);  // pinned memory is of a device's context
    std::string why;
    Allocate(new_blocks, &why);
  });
}

bool HostCopies::Take(const std::vector<at::Tensor*>& tensors, std::string* why) {
  const at::NoGradGuard no_grad;
  if (reserving_.valid()) reserving_.get();
  auto [sources, bytes, source_of] = DistinctOf(tensors);
  std::vector<int64_t> new_blocks;
  const std::vector<Place> places = PlacesFor(bytes, &new_blocks);
  if (!Allocate(new_blocks, why)) return false;
  side_.WaitForCurrent();
  std::vector<at::Tensor> copies;
  {
    const SideStream::Use use(side_);
    for (size_t i = 0; i < sources.size(); ++i) {
      copies.push_back(blocks_[places[i].block]
                           .narrow(0, places[i].begin, bytes[i])
                           .view(sources[i].scalar_type())
                           .view(sources[i].sizes()));
      copies.back().copy_(sources[i], /*non_blocking=*/true);
    }
    copied_.Record();
  }
  if (!device_.is_cpu()) sources_ = std::move(sources);
  for (size_t i = 0; i < tensors.size(); ++i) *tensors[i] = copies[source_of[i]];
  return true;
}

void HostCopies::BeforeChange() {
  if (sources_.empty()) return;
  held_from_.emplace(device_);
  copied_.CurrentStreamWaits();
  held_to_.emplace(device_);
  sources_.clear();
}

double HostCopies::TakeHeldUpSeconds() {
  if (!held_from_) return 0;
  const double seconds = held_from_->SecondsTo(*held_to_);
  held_from_.reset();
  held_to_.reset();
  return seconds;
}

}  // namespace liger::trainer
