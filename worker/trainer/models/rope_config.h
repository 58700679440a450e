#ifndef LIGER_WORKER_TRAINER_MODELS_ROPE_CONFIG_H_
#define LIGER_WORKER_TRAINER_MODELS_ROPE_CONFIG_H_

#include <cstdint>
#include <vector>

#include "worker/trainer/models/config_reader.h"

namespace liger::trainer {

// Rotary position embedding: how the frequencies are made. Names are those of
// rope_parameters (transformers 5) and rope_scaling (hub) in config.json.
struct RopeConfig {
  enum class Type {
    kDefault,   // Su et al. 2021 (arXiv:2104.09864)
    kLinear,    // position interpolation, Chen et al. 2023 (arXiv:2306.15595)
    kDynamic,   // NTK-aware, growing with the longest sequence of the batch
    kYarn,      // Peng et al. 2023 (arXiv:2309.00071)
    kLlama3,    // Llama 3.1's frequency-dependent interpolation
    kLongRope,  // Ding et al. 2024 (arXiv:2402.13753), Phi-3's long contexts
  };
  Type type = Type::kDefault;
  double theta = 10000.0;
  // Entries of a head that are rotated, the first ones; even.
  int64_t rotary_dim = 0;
  int64_t max_position_embeddings = 0;
  double factor = 1.0;
  // What cosines and sines are multiplied with (yarn, longrope).
  double attention_factor = 1.0;
  int64_t original_max_position_embeddings = 0;          // llama3, yarn, longrope
  double low_freq_factor = 1.0, high_freq_factor = 1.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn
  std::vector<double> short_factor, long_factor;         // longrope, one a rotated pair

  // What a family brings to it.
  struct Family {
    double theta = 10000.0;
    bool partial = false;           // partial_rotary_factor is known
    int64_t original_length = 0;    // original_max_position_embeddings; 0: max_position_embeddings
    bool yarn_is_longrope = false;  // Phi-3 called it "su" and "yarn" once
  };
  // `config` is the whole config.json.
  static RopeConfig Parse(const ConfigReader& config, int64_t head_dim,
                          int64_t max_position_embeddings, const Family& family);
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ROPE_CONFIG_H_
