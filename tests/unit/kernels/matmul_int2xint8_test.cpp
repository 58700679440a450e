// What the op table does not ask of the product with packed weights.
#include "kernels/matmul_int2xint8/matmul_int2xint8.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bad_input.h"

namespace liger::kernels {
namespace {

TEST(MatmulInt2xInt8Test, PackingAndBack) {
  at::manual_seed(3);
  const at::Tensor weight = at::randint(-1, 2, {24, 7}, at::kChar), packed = PackInt2(weight);
  EXPECT_EQ(packed.sizes(), (at::IntArrayRef{6, 7}));
  EXPECT_TRUE(UnpackInt2(packed).equal(weight));
  // Rows 1, 7, 13 and 19 share a byte, the first one in the lowest bits.
  int64_t expected = 0;
  for (int64_t i = 0; i < 4; ++i) {
    expected += (weight[6 * i + 1][3].item<int64_t>() + 1) << (2 * i);
  }
  EXPECT_EQ(packed[1][3].item<int64_t>(), expected);
}

TEST(MatmulInt2xInt8Test, IsTheIntegerProduct) {
  at::manual_seed(3);
  const at::Tensor weight = at::randint(-1, 2, {64, 33}, at::kChar);
  const at::Tensor x = at::randint(-128, 128, {19, 64}, at::kChar);
  const at::Tensor y = MatmulInt2xInt8(x, PackInt2(weight));
  EXPECT_EQ(y.scalar_type(), at::kInt);
  EXPECT_TRUE(y.equal(at::mm(x.to(at::kInt), weight.to(at::kInt))));
  // Of views, and of extreme values.
  const at::Tensor xt = x.t().contiguous().t(), wt = PackInt2(weight).t().contiguous().t();
  EXPECT_TRUE(MatmulInt2xInt8(xt, wt).equal(y));
  const at::Tensor lowest = at::full({1, 64}, -128, at::kChar);
  EXPECT_EQ(MatmulInt2xInt8(lowest, PackInt2(at::ones({64, 1}, at::kChar))).item<int>(), -8192);
}

TEST(MatmulInt2xInt8Test, BadInput) {
  const at::Tensor x = Zeros({2, 8}, at::kChar), w = Zeros({2, 5}, at::kByte);
  const std::string op = "matmul_int2xint8: ";
  ExpectMessages({
      {[=] {
         MatmulInt2xInt8(Zeros({2, 7}, at::kChar), w);
       },
       {op + "x", "[2, 7]", "[M, 4 R] = [2, 8]"}},
      {[=] { MatmulInt2xInt8(Zeros({8}, at::kChar), w); }, {op + "x", "[8]", "2 dimensions"}},
      {[=] {
         MatmulInt2xInt8(Zeros({2, 8}), w);
       },
       {op + "x", "Float", "Char"}},
      {[=] {
         MatmulInt2xInt8(x, Zeros({2, 5}, at::kChar));
       },
       {op + "packed", "Char", "Byte"}},
      {[=] { MatmulInt2xInt8(x, Zeros({2}, at::kByte)); }, {op + "packed", "[2]", "2 dimensions"}},
      {[=] {
         MatmulInt2xInt8(x, at::zeros({2, 5}, at::TensorOptions(at::kMeta).dtype(at::kByte)));
       },
       {op + "x", "cpu", "meta"}},
      {[] {
         PackInt2(Zeros({6, 5}, at::kChar));
       },
       {"pack_int2: weight", "[6, 5]", "multiple of 4"}},
      {[] {
         PackInt2(Zeros({8, 5}));
       },
       {"pack_int2: weight", "Float"}},
      {[] {
         at::Tensor weight = Zeros({8, 5}, at::kChar);
         weight[3][2] = 5;
         PackInt2(weight);
       },
       {"pack_int2: weight has 5 at row 3, column 2"}},
      {[] {
         UnpackInt2(Zeros({8, 5}, at::kChar));
       },
       {"unpack_int2: packed", "Char"}},
  });
}

}  // namespace
}  // namespace liger::kernels
