#ifndef LIGER_TESTS_UNIT_MODELS_LORA_CASES_H_
#define LIGER_TESTS_UNIT_MODELS_LORA_CASES_H_

#include <functional>
#include <memory>
#include <string>

#include "tests/unit/models/golden.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {

inline std::string AdapterDir(const std::string& name) {
  return golden::Folder("lora/" + name) + "/adapter";
}

inline std::shared_ptr<CausalLM> Meta(const std::string& tiny) {
  return BuildModel(ModelConfig::FromFolder(golden::Folder("tiny/" + tiny)),
                    golden::Kernels("LIGER"), at::kMeta);
}

inline std::string ErrorText(const std::function<void()>& f) {
  try {
    f();
  } catch (const TrainerError& error) {
    return error.failure().field() + "|" + error.what() + "|" + error.failure().action();
  }
  return "no error";
}

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_MODELS_LORA_CASES_H_
