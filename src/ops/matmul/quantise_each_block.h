// The walk over rows and blocks that every instruction set's quantisation shares. Internal linkage: files
// compiled for several instruction sets include it.
#pragma once

#include "ops/matmul/matmul_kernels.h"

namespace crible {
namespace {

// block(x, values, scale, sum, half_sums) quantises one block of 32.
template <typename Block>
void quantise_each_block(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q,
                         Block block) {
  const int64_t blocks = columns / kQuantBlock;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t at = r * blocks + b;
      block(x + r * x_stride + b * kQuantBlock, q.values + r * columns + b * kQuantBlock, q.scales + at, q.sums + at,
            q.half_sums + 2 * at);
    }
  }
}

}  // namespace
}  // namespace crible
