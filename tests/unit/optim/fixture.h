#ifndef LIGER_TESTS_UNIT_OPTIM_FIXTURE_H_
#define LIGER_TESTS_UNIT_OPTIM_FIXTURE_H_

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/paths.h"

namespace liger::trainer {

// tests/golden/optim/optim.json, from tools/fixtures/optim_fixtures.py.
inline const nlohmann::ordered_json& OptimFixture() {
  static const nlohmann::ordered_json fixture = [] {
    std::ifstream in(SourceDir() + "/tests/golden/optim/optim.json");
    return nlohmann::ordered_json::parse(in);
  }();
  return fixture;
}

// The script's wave().
inline std::vector<double> Wave(int64_t count, double seed) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(std::sin(0.7 * double(i) + 1.3 * seed) *
                     std::cos(0.11 * double(i) * double(i) + seed));
  }
  return values;
}

// float64.
inline at::Tensor FromWave(at::IntArrayRef shape, double seed) {
  return at::tensor(Wave(c10::multiply_integers(shape), seed), at::kDouble).reshape(shape);
}

using Leaves = std::vector<std::pair<std::string, at::Tensor>>;

// Parameters of the named shapes, the i-th from wave i.
inline Leaves LeavesOf(const nlohmann::ordered_json& shapes, at::ScalarType dtype = at::kFloat) {
  Leaves leaves;
  for (const auto& [name, shape] : shapes.items()) {
    const at::Tensor value = FromWave(shape.get<std::vector<int64_t>>(), double(leaves.size()));
    leaves.emplace_back(name, value.to(dtype).requires_grad_());
  }
  return leaves;
}

// L2.
inline double RelativeError(const at::Tensor& ours, const std::vector<double>& golden) {
  const at::Tensor expected = at::tensor(golden, at::kDouble);
  return ((ours.detach().flatten().to(at::kDouble) - expected).norm() / expected.norm())
      .item<double>();
}

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_OPTIM_FIXTURE_H_
