#ifndef LIGER_WORKER_TRAINER_LOOP_LORA_SETUP_H_
#define LIGER_WORKER_TRAINER_LOOP_LORA_SETUP_H_

#include <string>
#include <utility>
#include <vector>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/models/lora.h"

namespace liger::trainer {

// A job's adapter: what its spec or its folder says, and where in the model it goes.
struct LoraSetup {
  AdapterConfig config;
  std::string adapter_dir;  // empty: a new adapter
  LoraTargets targets;

  // Throws TrainerError (CONFIG) when the adapter does not fit the model, which may
  // be on the meta device.
  static LoraSetup Find(const liger::v1::LoraSpec& lora, const std::string& adapter_dir,
                        const CausalLM& model);

  // Before weights are loaded: modules saved whole keep their own dtype.
  void StoreSavedIn(at::ScalarType storage, CausalLM& model) const;
  // After: the adapters, new or from their folder, on the model's device.
  void Attach(CausalLM& model, at::ScalarType storage, uint64_t seed) const;

  // Of all parameters in the storage dtype, what an adapter folder holds, and what
  // a folder of the merged model does. Share memory with them.
  std::vector<NamedTensor> Adapter(const std::vector<NamedTensor>& stored) const;
  std::vector<NamedTensor> Merged(const std::vector<NamedTensor>& stored) const;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_LORA_SETUP_H_
