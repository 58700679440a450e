// usage: liger-folder-logits FOLDER ROWS.jsonl
//
// The logits of a Hugging Face folder's model in fp32 on the CPU, of each row's
// input_ids: fp32 [tokens, vocabulary] a row, one after the other, to standard
// output. For tests that compare with transformers.
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/token_logprobs.h"

int main(int argc, char** argv) {
  using namespace liger::trainer;
  if (argc != 3) return 2;
  const at::NoGradGuard no_grad;
  const auto model = BuildModel(ModelConfig::FromFolder(argv[1]), liger::v1::KernelSpec());
  LoadWeights(*model, argv[1]);
  std::ifstream rows(argv[2]);
  for (std::string line; std::getline(rows, line);) {
    ExampleSet set;
    const auto ids = nlohmann::json::parse(line).at("input_ids").get<std::vector<int32_t>>();
    set.sequences.push_back({.input_ids = ids, .labels = ids});
    const std::vector<int64_t> only = {0};
    const ModelInput input = ToModelInput(MakeBatch(set, only), *model);
    const at::Tensor logits_TV = model->Logits(model->Hidden(input)).contiguous();
    std::cout.write(static_cast<const char*>(logits_TV.const_data_ptr()),
                    static_cast<std::streamsize>(logits_TV.nbytes()));
  }
  return std::cout.flush() ? 0 : 1;
}
