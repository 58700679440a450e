#ifndef LIGER_KERNELS_LINEAR_SPLIT_TILES_H_
#define LIGER_KERNELS_LINEAR_SPLIT_TILES_H_

#include <cstdint>

#include "kernels/linear/operand.h"

// The pieces of split_gemm.h that need AMX: packing fp32 into bfloat16 tiles and multiplying
// them. No torch headers, as this is compiled for a CPU that not everybody has.
namespace liger::kernels::split {

// A panel is 32 rows of one operand (columns of the right one): two tiles of 16. A step is 32
// of the inner dimension. Each is held as three planes, high, middle, low.
inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kPanelRows = 2 * kTileRows;
inline constexpr int64_t kStepDepth = 32;
inline constexpr int64_t kTileSize = kTileRows * kStepDepth;  // bfloat16 numbers
inline constexpr int64_t kPlanes = 3;
inline constexpr int64_t kStepSize = kPlanes * 2 * kTileSize;

// Operands are multiplied by this before they are split, and products by 1 / kScale^2. A
// float32, a denormal one too, is a multiple of 2^-149: scaled, of 2^-125, so that none of its
// parts is a denormal bfloat16 (below 2^-126), which tiles take for zero. Sums that tiles flush to
// zero are below 2^-174 once unscaled: nothing beside the least float32.
inline constexpr float kScale = 0x1p24f;

// Whether this CPU and kernel have what the functions below need: AVX-512 with BF16, AMX with
// BF16, and leave to use its registers, which the first call asks for. Thread-safe.
bool HasTiles();

using gemm::Block;
using gemm::Operand;
using gemm::Panels;
using gemm::Side;

struct Steps {
  int64_t begin, count;
};

// Writes these panels and steps of X, zero outside of it, to out: kStepSize numbers a step, the
// steps of a panel after each other. largest: of each panel, the bits of the largest magnitude
// read; those of NaN are above infinity's.
void PackPanels(const Operand& x, Side side, const Panels& panels, const Steps& steps,
                uint16_t* out, uint32_t* largest);

// Tile registers are set up for this thread as long as this lives.
class TileScope {
 public:
  TileScope();
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// What is read soon: during each step of a product some lines of 64 bytes of it are called into
// the L2 cache.
struct Ahead {
  const uint16_t* from;
  int64_t lines_per_step;
};

// c (+)= left right^T over `steps` steps of two packed panels; c is at most 32 x 32.
// REQUIRES: a TileScope of this thread.
void MultiplyPanels(const uint16_t* left, const uint16_t* right, int64_t steps, const Block& c,
                    bool add, Ahead ahead);

}  // namespace liger::kernels::split

#endif  // LIGER_KERNELS_LINEAR_SPLIT_TILES_H_
