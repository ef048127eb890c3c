// Activations to 16-bit blocks, for AVX-512; the arithmetic of quantise_rows_scalar.cc.
#include "ops/matmul/quantise_block_avx512.h"
#include "ops/matmul/quantise_each_block.h"

namespace crible {

void quantise_rows_avx512(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  quantise_each_block(x, x_stride, rows, columns, q, quantise_block);
}

}  // namespace crible
