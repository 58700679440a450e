#ifndef LIGER_TESTS_UNIT_KERNELS_BAD_INPUT_H_
#define LIGER_TESTS_UNIT_KERNELS_BAD_INPUT_H_

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace liger::kernels {

inline at::Tensor Zeros(at::IntArrayRef shape, c10::ScalarType dtype = at::kFloat) {
  return at::zeros(shape, dtype);
}
inline at::Tensor OnMeta(at::IntArrayRef shape) {
  return at::zeros(shape, at::TensorOptions().device(at::kMeta));
}
inline at::Tensor Target(std::vector<int64_t> values) { return at::tensor(values, at::kLong); }

struct BadCall {
  std::function<void()> call;
  std::vector<std::string> message;
};

inline void ExpectMessages(const std::vector<BadCall>& calls) {
  for (size_t i = 0; i < calls.size(); ++i) {
    try {
      calls[i].call();
      ADD_FAILURE() << "call " << i << " was accepted, expected: " << calls[i].message[0];
    } catch (const c10::Error& error) {
      for (const auto& part : calls[i].message) {
        EXPECT_THAT(error.what_without_backtrace(), ::testing::HasSubstr(part)) << "call " << i;
      }
    }
  }
}

}  // namespace liger::kernels

#endif  // LIGER_TESTS_UNIT_KERNELS_BAD_INPUT_H_
