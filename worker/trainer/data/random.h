#ifndef LIGER_WORKER_TRAINER_DATA_RANDOM_H_
#define LIGER_WORKER_TRAINER_DATA_RANDOM_H_

#include <cstdint>

namespace liger::trainer {

// The mix of SplitMix64: one to one, and a bit of z changes about half of the result's.
inline uint64_t MixBits(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

inline constexpr uint64_t kGoldenRatio = 0x9E3779B97F4A7C15u;  // of 2^64

// A digest of numbers and their order that tells others by accident, not by intent;
// the same on every machine. `digest` is that of those before, 0 of none.
inline uint64_t AddToDigest(uint64_t digest, uint64_t number) {
  return MixBits((digest ^ number) + kGoldenRatio);
}

// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
// generators"): the i-th number is a mix of key + (i + 1) * golden ratio, so
// any number follows from (key, counter). Ours, not std::shuffle's, because
// the standard leaves the latter's order to the library.
class CounterRandom {
 public:
  // Streams of one seed that differ in `stream` are independent.
  CounterRandom(uint64_t seed, uint64_t stream) : state_(MixBits(seed) ^ MixBits(~stream)) {}

  uint64_t Next() { return MixBits(state_ += kGoldenRatio); }

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
  uint64_t state_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_RANDOM_H_
