#ifndef LIGER_TESTS_UNIT_DATA_TEST_UTIL_H_
#define LIGER_TESTS_UNIT_DATA_TEST_UTIL_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "worker/trainer/error.h"

namespace liger::trainer {

// A file that goes away with the test.
class TempFile {
 public:
  explicit TempFile(const std::string& content, const std::string& name = "rows.json") {
    std::string pattern = (std::filesystem::temp_directory_path() / "liger-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    std::ofstream(path(name), std::ios::binary) << content;
    path_ = path(name);
  }
  ~TempFile() {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path(const std::string& name) const { return dir_ / name; }

  std::filesystem::path dir_;
  std::string path_;
};

// The failure that `call` throws.
template <typename Call>
liger::v1::Failure FailureOf(Call call) {
  try {
    call();
  } catch (const TrainerError& e) {
    return e.failure();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "threw something else: " << e.what();
    return {};
  }
  ADD_FAILURE() << "did not throw";
  return {};
}

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_DATA_TEST_UTIL_H_
