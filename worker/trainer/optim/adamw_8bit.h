#ifndef LIGER_WORKER_TRAINER_OPTIM_ADAMW_8BIT_H_
#define LIGER_WORKER_TRAINER_OPTIM_ADAMW_8BIT_H_

#include "worker/trainer/optim/adamw.h"
#include "worker/trainer/optim/aten_optimizer.h"

namespace liger::trainer {

// The 256 values in [-1, 1] (or [0, 1]) that a state's 8 bits stand for: seven
// ranges, each ten times the one before, of which the larger ones are divided
// more finely (Dettmers 2016, arXiv:1511.04561; Dettmers et al. 2022,
// arXiv:2110.02861). fp32 [256], ascending; bit-equal to bitsandbytes'.
at::Tensor DynamicMap(bool has_sign);

// AdamW with states in 8 bits by blocks of 256 elements, each scaled by its
// largest magnitude, as bitsandbytes' AdamW8bit. The update uses the states
// before they are rounded.
//
// As there and in transformers' Trainer, tensors of less than 4096 elements and
// embeddings keep fp32 states. States "exp_avg" and "exp_avg_sq" (uint8 codes, or
// fp32), "exp_avg_absmax" and "exp_avg_sq_absmax" (fp32, one a block).
class AdamW8bit : public AtenOptimizer {
 public:
  AdamW8bit(TrainableParameters& parameters, const AdamWOptions& options,
            const PrecisionPlan& precision, uint64_t seed);

 protected:
  States MakeStates(const Entry& entry, at::Device device) const override;
  void Update(const Entry& entry, at::Tensor param, const at::Tensor& grad, double learning_rate,
              States& states) override;

 private:
  // One kind of state: which values its codes have, and where one ends and the
  // next begins.
  struct Code {
    explicit Code(bool has_sign);
    void MoveTo(at::Device device);
    at::Tensor Decode(const at::Tensor& codes, const at::Tensor& absmax) const;
    void Encode(const at::Tensor& values, at::Tensor codes, at::Tensor absmax) const;
    at::Tensor map, borders;
  };
  // AdamW's update of fp32 tensors of one shape, in place.
  void UpdateValues(bool decay, at::Tensor param, const at::Tensor& grad, at::Tensor exp_avg,
                    at::Tensor exp_avg_sq, double learning_rate) const;

  AdamWOptions options_;
  Code with_sign_, without_sign_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_ADAMW_8BIT_H_
