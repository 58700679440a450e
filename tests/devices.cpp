#include "tests/devices.h"

#include <cstdlib>
#include <filesystem>
#include <string>

namespace liger {

bool OnGpus() {
  const char* kind = std::getenv("LIGER_TEST_DEVICE_KIND");
  if (kind == nullptr || std::string(kind) == "DEVICE_KIND_CPU") return false;
  if (std::string(kind) != "DEVICE_KIND_CUDA") std::abort();
  return true;
}

int GpusOfThisHost() {
  int gpus = 0;
  while (std::filesystem::exists("/dev/nvidia" + std::to_string(gpus))) ++gpus;
  return gpus;
}

}  // namespace liger
