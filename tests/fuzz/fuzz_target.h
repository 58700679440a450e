#ifndef LIGER_TESTS_FUZZ_FUZZ_TARGET_H_
#define LIGER_TESTS_FUZZ_FUZZ_TARGET_H_

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "worker/trainer/error.h"

// What a fuzz target defines; libFuzzer calls it, and so does driver.cpp.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace liger::trainer {

// A folder of this process, with the one file that a reader is given. In memory
// where the system has a folder for that: a file on disk would take most of the time.
class FuzzFile {
 public:
  explicit FuzzFile(const std::string& name)
      : dir_((std::filesystem::is_directory("/dev/shm") ? std::filesystem::path("/dev/shm")
                                                        : std::filesystem::temp_directory_path()) /
             ("liger-fuzz-" + std::to_string(getpid()))),
        path_(dir_ / name) {
    std::filesystem::create_directories(dir_);
  }
  ~FuzzFile() {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  void Write(std::string_view bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string dir() const { return dir_.string(); }
  std::string path() const { return path_.string(); }

 private:
  const std::filesystem::path dir_, path_;
};

// Runs `use`, which may refuse the input with TrainerError. Every other exception
// goes through and ends the program: a malformed file must get a proper error.
template <typename Use>
void MayRefuse(Use use) {
  try {
    use();
  } catch (const TrainerError&) {
  }
}

inline std::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace liger::trainer

#endif  // LIGER_TESTS_FUZZ_FUZZ_TARGET_H_
