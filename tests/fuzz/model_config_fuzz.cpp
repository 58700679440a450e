// config.json.

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/models/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  static const FuzzFile file("config.json");
  file.Write(AsText(data, size));
  MayRefuse([] { ModelConfig::FromFolder(file.dir()); });
  return 0;
}
