// A GGUF file: its header, its metadata as text files, and every tensor.

#include <ATen/ATen.h>

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/gguf/dequantize.h"
#include "worker/trainer/gguf/folder_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  static const FuzzFile file("fuzz.gguf");
  file.Write(AsText(data, size));
  MayRefuse([] {
    const auto opened = GgufFile::Open(file.path());
    for (const auto& [name, tensor] : opened->tensors()) Dequantize(*opened, tensor);
    MayRefuse([&] { GgufConfig(*opened).dump(); });
    MayRefuse([&] { GgufGenerationConfig(*opened).dump(); });
    MayRefuse([&] { GgufTokenizerFiles(*opened); });
  });
  return 0;
}
