#ifndef LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_OPTIONS_H_
#define LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_OPTIONS_H_

#include <cstdint>
#include <string>

namespace liger::trainer {

// Where tokenised data sets are kept, and how many bytes of them.
struct TokenCacheOptions {
  std::string dir;  // empty: nothing is kept
  int64_t max_bytes = 20'000'000'000;

  // LIGER_DATA_CACHE: a folder, or "off"; else below XDG_CACHE_HOME or HOME.
  // LIGER_DATA_CACHE_GB: most gigabytes (10^9 bytes). Throws TrainerError (CONFIG) naming the
  // variable.
  static TokenCacheOptions FromEnvironment();
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_OPTIONS_H_
