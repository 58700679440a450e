#ifndef LIGER_TESTS_UNIT_OPTIM_FIXTURE_H_
#define LIGER_TESTS_UNIT_OPTIM_FIXTURE_H_

#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace liger::trainer {

// tests/golden/optim/optim.json, from tools/fixtures/optim_fixtures.py.
inline const nlohmann::ordered_json& OptimFixture() {
  static const nlohmann::ordered_json fixture = [] {
    std::ifstream in(std::string(LIGER_SOURCE_DIR) + "/tests/golden/optim/optim.json");
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

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_OPTIM_FIXTURE_H_
