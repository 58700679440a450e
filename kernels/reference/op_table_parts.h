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

// Norms, activations and embedding beyond those of op_table.cpp itself.
std::vector<OpCase> NormCases();

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_REFERENCE_OP_TABLE_PARTS_H_
