#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_WEIGHTS_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_WEIGHTS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/checkpoint/safetensors.h"

namespace liger::trainer {

// What a model needs from its checkpoint.
struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// True for a tensor of the checkpoint that the model does not need but that may
// be there (an lm_head.weight beside tied embeddings, rotary_emb.inv_freq).
using IgnorablePredicate = std::function<bool(std::string_view name)>;

// The weights of a Hugging Face folder: model.safetensors, or the shards that
// model.safetensors.index.json lists.
class WeightReader {
 public:
  // Throws TrainerError (CONFIG): no weights (saying which other formats are
  // there), a shard missing, an index that disagrees with its shards, or what
  // SafetensorsFile::Open finds. Weights that were saved without a head may lack the
  // "model." before their names, as in transformers; here they have it.
  static WeightReader Open(const std::string& model_dir);

  // The tensors of a PEFT adapter's folder; Check then speaks of the base model.
  static WeightReader OpenAdapter(const std::string& adapter_dir);

  // By name, over all shards.
  const std::map<std::string, const SafetensorsFile*>& tensors() const { return owner_; }
  bool Has(const std::string& name) const { return owner_.count(name) != 0; }
  // Gives a tensor another name. REQUIRES: Has(from), not Has(to).
  void Rename(const std::string& from, const std::string& to);
  // REQUIRES: Has(name), for these three.
  const TensorInfo& Info(const std::string& name) const;
  at::Tensor View(const std::string& name) const;
  void CopyInto(const std::string& name, at::Tensor target) const;

  int64_t total_bytes() const;
  int64_t total_parameters() const;

  // Throws TrainerError (CONFIG) when a tensor is missing, extra or of another
  // shape; names the tensors, both shapes and what to do.
  void Check(const std::vector<ExpectedTensor>& expected,
             const IgnorablePredicate& ignorable = nullptr) const;

  // Check, then CopyInto each: loads a model. Host memory beyond the targets:
  // nothing on the CPU, one tensor for a GPU. Parameters that require gradients
  // are filled without being recorded.
  void LoadInto(const std::vector<NamedTensor>& targets,
                const IgnorablePredicate& ignorable = nullptr) const;

 private:
  void Add(const std::string& path);
  void AddBasePrefix();
  const std::string& Stored(const std::string& name) const;

  std::string dir_;
  bool adapter_ = false;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> owner_;
  std::map<std::string, std::string> stored_;  // names in the file, of renamed tensors
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_WEIGHTS_H_
