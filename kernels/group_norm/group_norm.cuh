#ifndef LIGER_KERNELS_GROUP_NORM_GROUP_NORM_CUH_
#define LIGER_KERNELS_GROUP_NORM_GROUP_NORM_CUH_

#include <algorithm>

#include "kernels/common/device.cuh"
#include "kernels/group_norm/group_norm_launch.h"

// How both sets of group_norm's kernels cut up x: units are the pieces of channels whose sums go
// into the weight's gradient, parts are runs of a group.
namespace liger::kernels::cuda {

inline constexpr int64_t kPieceElements = 1024;
inline constexpr int64_t kPartElements = 8192;
// Pieces of long channels start at multiples of that many elements: whole packs, whole warps.
inline constexpr int64_t kPieceMultiple = 256;

struct GroupGeometry {
  int64_t N = 0, C = 0, G = 0, L = 0;
  int64_t channels = 0, elements = 0;    // of a group
  int64_t pieces = 0, piece_length = 0;  // of a channel; its last piece may be shorter
  int64_t parts = 0;                     // of a group; its last one may be shorter
};

inline GroupGeometry GeometryOf(const GroupNormShape& s) {
  GroupGeometry g{.N = s.N, .C = s.C, .G = s.G, .L = s.L};
  g.channels = s.C / s.G;
  g.elements = g.channels * s.L;
  g.piece_length = s.L;
  if (s.L > kPieceElements) {
    const int64_t pieces = (s.L + kPieceElements - 1) / kPieceElements;
    g.piece_length = ((s.L + pieces - 1) / pieces + kPieceMultiple - 1) / kPieceMultiple;
    g.piece_length *= kPieceMultiple;
  }
  g.pieces = (s.L + g.piece_length - 1) / g.piece_length;
  g.parts = (g.elements + kPartElements - 1) / kPartElements;
  return g;
}

// Lanes of a warp that take a unit of so many packs: a power of two.
inline int TeamSize(int64_t packs) {
  int team = 1;
  while (team < 32 && team < packs) team *= 2;
  return team;
}

// Sums over teams of lanes that lie side by side.
__device__ __forceinline__ float TeamSum(float v, int team) {
  for (int offset = team / 2; offset > 0; offset /= 2) {
    v += __shfl_xor_sync(0xffffffffu, v, offset);
  }
  return v;
}

// Where the sums of a channel's piece stand in [N * pieces, C].
__device__ __forceinline__ int64_t UnitIndex(const GroupGeometry& g, int64_t n, int64_t channel,
                                             int64_t piece) {
  return (n * g.pieces + piece) * g.C + channel;
}

// Kernels of one pass, where a group fits into the shared memory of a cluster of blocks. Return
// false, and launch nothing, where it does not.
bool HeldForward(const Queue& queue, const GroupNormShape& shape, const void* x, const void* weight,
                 const void* bias, float eps, void* y, float* mean, float* rstd, Error* error);
// unit_dw and unit_db [N * pieces, C] may be null.
bool HeldBackward(const Queue& queue, const GroupNormShape& shape, const void* dy, const void* x,
                  const void* weight, const float* mean, const float* rstd, void* dx,
                  float* unit_dw, float* unit_db, Error* error);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_GROUP_NORM_GROUP_NORM_CUH_
