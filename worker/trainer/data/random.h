#ifndef LIGER_WORKER_TRAINER_DATA_RANDOM_H_
#define LIGER_WORKER_TRAINER_DATA_RANDOM_H_

#include <cstdint>

namespace liger::trainer {

// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
// generators"): the i-th number is a mix of key + (i + 1) * golden ratio, so
// any number follows from (key, counter). Ours, not std::shuffle's, because
// the standard leaves the latter's order to the library.
class CounterRandom {
 public:
  // Streams of one seed that differ in `stream` are independent.
  CounterRandom(uint64_t seed, uint64_t stream) : state_(Mix(seed) ^ Mix(~stream)) {}

  uint64_t Next() { return Mix(state_ += kGolden); }

  // Uniform in [0, bound), without bias (Lemire 2019, "Fast random integer
  // generation in an interval"). REQUIRES: bound > 0.
  uint64_t Below(uint64_t bound) {
    unsigned __int128 product = static_cast<unsigned __int128>(Next()) * bound;
    if (static_cast<uint64_t>(product) < bound) {
      const uint64_t threshold = -bound % bound;
      while (static_cast<uint64_t>(product) < threshold) {
        product = static_cast<unsigned __int128>(Next()) * bound;
      }
    }
    return static_cast<uint64_t>(product >> 64);
  }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_RANDOM_H_
