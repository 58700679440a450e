// usage: liger-folder-logits FOLDER ROWS.jsonl [GRADIENTS.safetensors]
//
// The logits of a Hugging Face folder's model in fp32 on the CPU, of each row's
// input_ids: fp32 [tokens, vocabulary] a row, one after the other, to standard
// output. With a third argument, that file gets the gradients of the sum over
// all rows of each next token's negative log-likelihood, under the names that
// the folder has for the weights. For tests that compare with transformers.
#include <ATen/ATen.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "worker/trainer/checkpoint/file_writer.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

std::vector<NamedTensor> Gradients(const CausalLM& model) {
  std::vector<NamedTensor> gradients;
  for (const auto& item : model.named_parameters()) {
    const at::Tensor& grad = item.value().grad();
    for (NamedTensor& tensor :
         CheckpointTensors(model.config(), item.key(),
                           grad.defined() ? grad : at::zeros_like(item.value()))) {
      gradients.push_back(std::move(tensor));
    }
  }
  return gradients;
}

int Main(int argc, char** argv) {
  if (argc != 3 && argc != 4) return 2;
  const bool gradients = argc == 4;
  const at::AutoGradMode mode(gradients);
  const auto model = BuildModel(ModelConfig::FromFolder(argv[1]), liger::v1::KernelSpec());
  LoadWeights(*model, argv[1]);
  std::ifstream rows(argv[2]);
  for (std::string line; std::getline(rows, line);) {
    ExampleSet set;
    const auto ids = nlohmann::json::parse(line).at("input_ids").get<std::vector<int32_t>>();
    set.sequences.push_back({.input_ids = ids, .labels = ids});
    const std::vector<int64_t> only = {0};
    const Batch batch = MakeBatch(set, only);
    const at::Tensor logits_TV =
        model->Logits(model->Hidden(ToModelInput(batch, *model))).contiguous();
    std::cout.write(static_cast<const char*>(logits_TV.const_data_ptr()),
                    static_cast<std::streamsize>(logits_TV.nbytes()));
    if (!gradients) continue;
    at::cross_entropy_loss(logits_TV, NextTokenTargets(batch.labels_T, batch.cu_seqlens_S1),
                           /*weight=*/{}, at::Reduction::Sum, kIgnoredLabel)
        .backward();
  }
  if (gradients) {
    FileWriter file(argv[3], /*bytes_needed=*/0);
    WriteSafetensors(file, Gradients(*model));
    file.Close();
  }
  return std::cout.flush() ? 0 : 1;
}

}  // namespace
}  // namespace liger::trainer

int main(int argc, char** argv) { return liger::trainer::Main(argc, argv); }
