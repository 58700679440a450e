#include "worker/trainer/gguf/dequantize.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>

namespace liger::trainer {
namespace {

constexpr int64_t kBlock = 32;  // values

float HalfAt(const char* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return c10::Half(bits, c10::Half::from_bits());
}

// One block of BlockValues(type) values; `out` gets them.
using Decode = void (*)(const char* block, float* out);

void DecodeF32(const char* block, float* out) { std::memcpy(out, block, sizeof(float)); }

void DecodeF16(const char* block, float* out) { *out = HalfAt(block); }

void DecodeBf16(const char* block, float* out) {
  uint16_t bits;
  std::memcpy(&bits, block, sizeof(bits));
  *out = c10::BFloat16(bits, c10::BFloat16::from_bits());
}

void DecodeQ8_0(const char* block, float* out) {
  const float d = HalfAt(block);
  for (int64_t i = 0; i < kBlock; ++i) {
    out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

// The low halves of the bytes come first.
int Nibble(const char* bytes, int64_t i) {
  const auto byte = static_cast<unsigned char>(bytes[i % (kBlock / 2)]);
  return i < kBlock / 2 ? byte & 15 : byte >> 4;
}

void DecodeQ4_0(const char* block, float* out) {
  const float d = HalfAt(block);
  for (int64_t i = 0; i < kBlock; ++i) out[i] = d * static_cast<float>(Nibble(block + 2, i) - 8);
}

void DecodeQ4_1(const char* block, float* out) {
  const float d = HalfAt(block), m = HalfAt(block + 2);
  for (int64_t i = 0; i < kBlock; ++i) out[i] = d * static_cast<float>(Nibble(block + 4, i)) + m;
}

// Four values share a byte of high bits, and each 16 a scale: twice 128 values, of which those
// of one byte lie 32 apart.
void DecodeQ6_K(const char* block, float* out) {
  const auto* low = reinterpret_cast<const unsigned char*>(block);
  const auto* high = low + 128;
  const auto* scales = reinterpret_cast<const int8_t*>(high + 64);
  const float d = HalfAt(block + 208);
  for (int64_t half = 0; half < 2; ++half, low += 64, high += 32, scales += 8, out += 128) {
    for (int64_t i = 0; i < 128; ++i) {
      const int64_t quarter = i / 32, at = i % 32;
      const int nibble = quarter < 2 ? low[i % 64] & 15 : low[i % 64] >> 4;
      const int q = nibble | ((high[at] >> (2 * quarter)) & 3) << 4;
      const float scale = d * static_cast<float>(scales[i / 16]);
      out[i] = scale * static_cast<float>(q - 32);
    }
  }
}

int64_t BlockValues(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      return 1;
    case GgmlType::kQ6_K:
      return 256;
    default:
      return kBlock;
  }
}

Decode DecoderOf(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return DecodeF32;
    case GgmlType::kF16:
      return DecodeF16;
    case GgmlType::kBF16:
      return DecodeBf16;
    case GgmlType::kQ8_0:
      return DecodeQ8_0;
    case GgmlType::kQ4_0:
      return DecodeQ4_0;
    case GgmlType::kQ4_1:
      return DecodeQ4_1;
    case GgmlType::kQ6_K:
      return DecodeQ6_K;
  }
  return nullptr;  // GgufFile has no other
}

}  // namespace

at::Tensor Dequantize(const GgufFile& file, const GgufTensor& tensor) {
  const std::string_view data = file.Data(tensor);
  at::Tensor out = at::empty(tensor.shape, at::kFloat);
  float* values = out.mutable_data_ptr<float>();
  const Decode decode = DecoderOf(tensor.type);
  const int64_t block_values = BlockValues(tensor.type);
  const int64_t blocks = tensor.numel() / block_values;
  const int64_t block_bytes = static_cast<int64_t>(data.size()) / blocks;
  at::parallel_for(0, blocks, /*grain_size=*/1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      decode(data.data() + i * block_bytes, values + i * block_values);
    }
  });
  return out;
}

}  // namespace liger::trainer
