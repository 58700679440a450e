#ifndef LIGER_TESTS_UNIT_FSDP_CASES_H_
#define LIGER_TESTS_UNIT_FSDP_CASES_H_

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "worker/trainer/data/example.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/optim/optimizer.h"

// Three steps of small models on one device and in shards, on ranks that are threads.
namespace liger::trainer::testing_fsdp {

constexpr double kTolerance = 1e-5;
constexpr int kSteps = 3;

struct Case {
  const char* name;
  const char* folder;  // below tests/golden/models/tiny: the shape
  int ranks, shards;
  const char* spec = R"({"sft": {}})";
  RowKind kind = RowKind::kSequence;
  bool lora = false, checkpoint = false;
  bool masked = false;  // a rank has no row that something is learnt from
  // With lora: the head is trained whole, and the reference is the model with the adapter that it
  // begins with.
  bool saves_head = false;
  const char* kernels = "LIGER";
  bool shards_parameters = true, reshard = true;
  at::ScalarType reduce = at::kFloat;
  const char* optim = "adamw";
  bool on_host = false;
  // Parameters after three steps, too. Not where a step brings gradients to one size that are small
  // beside the others, and with them their rounding: AdamW's, and adafactor's of the rows of
  // adapters and experts (AdafactorTest has those of equal gradients).
  bool compares_movement = false;
};

void PrintTo(const Case& c, std::ostream* out);

constexpr char kUntied[] = "mha_untied_hub", kTied[] = "gqa_tied_v5";
constexpr char kDpo[] = R"({"dpo": {}})", kOrpo[] = R"({"orpo": {"beta": 0.2}})";
// The second step's loss is of a reference that has moved once, the third's twice.
constexpr char kSyncedDpo[] = R"({"dpo": {"syncRefModel": true, "refModelMixupAlpha": 0.5,
                                          "refModelSyncSteps": 1}})";
constexpr char kKto[] = R"({"kto": {"lossType": "apo_zero_unpaired"}})";

// Blocks are five, so that their two buffers change hands.
std::shared_ptr<CausalLM> Model(const Case& c, uint64_t seed = 3);
std::unique_ptr<Optimizer> OptimizerOf(const Case& c, TrainableParameters& parameters);

// The gradients of a batch of SFT.
void Backward(CausalLM& model);

struct Outcome {
  std::vector<double> losses;                    // of each step
  std::map<std::string, at::Tensor> gradient;    // of the first
  std::map<std::string, at::Tensor> parameters;  // after the last
  double norm = 0;
};
Outcome RunSingle(const Case& c);
Outcome RunSharded(const Case& c);

double RelativeError(const at::Tensor& actual, const at::Tensor& expected);
// Of all tensors as one vector.
double RelativeError(const std::map<std::string, at::Tensor>& actual,
                     const std::map<std::string, at::Tensor>& expected);
// How far `after` is from what Model(c) begins with.
std::map<std::string, at::Tensor> Moved(const Case& c, std::map<std::string, at::Tensor> after);

}  // namespace liger::trainer::testing_fsdp

#endif  // LIGER_TESTS_UNIT_FSDP_CASES_H_
