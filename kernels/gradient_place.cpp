#include "kernels/gradient_place.h"

#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace liger::kernels {
namespace {

struct Places {
  std::mutex mutex;
  std::unordered_map<const at::TensorImpl*, std::shared_ptr<const GradientPlace::Find>> by_weight;
};

Places& AllPlaces() {
  static auto* const places = new Places;
  return *places;
}

}  // namespace

GradientPlace::GradientPlace(const at::Tensor& weight, Find find) : weight_(weight) {
  Places& places = AllPlaces();
  const std::lock_guard lock(places.mutex);
  const bool is_new =
      places.by_weight
          .emplace(weight_.unsafeGetTensorImpl(), std::make_shared<const Find>(std::move(find)))
          .second;
  TORCH_CHECK(is_new, "a weight has one place for its gradient");
}

GradientPlace::~GradientPlace() {
  Places& places = AllPlaces();
  const std::lock_guard lock(places.mutex);
  places.by_weight.erase(weight_.unsafeGetTensorImpl());
}

at::Tensor GradientPlace::Of(const at::Tensor& weight) {
  std::shared_ptr<const Find> find;
  {
    Places& places = AllPlaces();
    const std::lock_guard lock(places.mutex);
    const auto found = places.by_weight.find(weight.unsafeGetTensorImpl());
    if (found == places.by_weight.end()) return {};
    find = found->second;
  }
  return (*find)();
}

}  // namespace liger::kernels
