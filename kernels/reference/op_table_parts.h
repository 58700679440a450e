#ifndef LIGER_KERNELS_REFERENCE_OP_TABLE_PARTS_H_
#define LIGER_KERNELS_REFERENCE_OP_TABLE_PARTS_H_

#include <vector>

#include "kernels/reference/op_table.h"

// What the files that hold the table's rows share.
namespace liger::kernels {

// Normal numbers of float32, rounded to dtype.
at::Tensor Randn(at::IntArrayRef shape, c10::ScalarType dtype, double scale = 1);

// One row, ragged, one column, a model's, none.
const std::vector<OpShape>& RowShapes();

// Those, a row of several packs a thread, one too long to be held, and a sum over many rows.
const std::vector<OpShape>& NormShapes();

// Random targets of the shape's tokens, some of them ignored as the shape says.
at::Tensor Targets(const OpShape& shape);

// Norms, activations and embedding beyond those of op_table.cpp itself.
std::vector<OpCase> NormCases();

// Cross entropy with options and the divergences.
std::vector<OpCase> LossCases();

std::vector<OpCase> AttentionCases();

// The fused heads with their options.
std::vector<OpCase> HeadOptionCases();

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_REFERENCE_OP_TABLE_PARTS_H_
