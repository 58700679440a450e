#ifndef LIGER_TESTS_UNIT_PARALLEL_STEP_OF_RANKS_H_
#define LIGER_TESTS_UNIT_PARALLEL_STEP_OF_RANKS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "worker/trainer/data/example.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/parallel/gang.h"

namespace liger::trainer {

// A step of the loop, and an evaluation, of a tiny model.
struct StepCase {
  const char* name;
  const char* spec;  // JSON of a JobSpec's method
  RowKind kind = RowKind::kSequence;
  const char* model = "tiny/gqa_tied_v5";
  bool lora = false;
  bool checkpointing = false;
  int64_t micro_batches = 1;
  int64_t rows_per_batch = 2;  // of a rank, or of a sequence group
  int64_t rows = 10;
  // Compared with as many micro-batches more, since the objective has a term that is a
  // micro-batch's own (the routers' balance): else with one that is as large as all ranks'.
  bool as_micro_batches = false;
  bool masked = false;  // every second row has no label
  int64_t last_tokens = 0;        // that sequences are cut to; 0: all
  int64_t sequences_per_pack = 0;  // 0: rows are not packed
  at::ScalarType dtype = at::kFloat;  // in which gradients are summed
  bool fsdp = false;                  // else DDP
  int hybrid_shard_size = 0;          // of FSDP; 0: all ranks
  const char* kernels = "LIGER";
};

// Runs `work` on ranks that are threads of this process; throws what a rank throws.
void RunGang(int ranks, const std::function<void(std::unique_ptr<Gang>)>& work);

ExampleSet Rows(const StepCase& c);
// Of a folder below tests/golden/models, in training mode.
std::shared_ptr<CausalLM> StepModel(const StepCase& c, const std::string& folder, bool lora);

// Expects of `world_size` ranks, which are threads, every `sequence_size` of them with the same
// rows, what one device makes of the same global batch: loss, metrics and the whole gradient,
// within 1e-5 where sums are in fp32, and the same bits on all ranks.
void ExpectOneDevice(const StepCase& c, int world_size, int sequence_size = 1);

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_PARALLEL_STEP_OF_RANKS_H_
