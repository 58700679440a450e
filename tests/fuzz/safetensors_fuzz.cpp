// A .safetensors file: its header, and the sum of every tensor over the map.

#include <ATen/ATen.h>

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  static const FuzzFile file("fuzz.safetensors");
  file.Write(AsText(data, size));
  MayRefuse([] {
    const auto opened = SafetensorsFile::Open(file.path());
    // Reads every byte: a view beyond the map is a fault.
    for (const auto& [name, info] : opened->tensors()) opened->View(name).clone();
  });
  return 0;
}
