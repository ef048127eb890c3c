// x in the order in which the products with 4-bit weights take it (int4_matmul_cuda.h), with its norm where
// asked for. Blocks of `block` rows follow each other; a block is, for every 64 columns, its rows of 128
// bytes as wgmma's 128-byte swizzle has them, each 32 columns permuted: pair t of operand k-step 2·i + h and
// half s is pair 4·t + 2·h + s of the 32, which is what a word of int4_tiles.h holds of W. Rows beyond x are
// not written.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

struct ArrangeArgs {
  const __nv_bfloat16* x = nullptr;  // [rows, columns]
  int64_t rows = 0;
  int64_t columns = 0;                         // a multiple of 128
  int64_t block = 0;                           // a multiple of 8
  void* out = nullptr;                         // arranged_bytes()
  const __nv_bfloat16* norm_weight = nullptr;  // [columns]: RMS norm of x first; null: none
  float epsilon = 0;
};

constexpr int64_t arranged_bytes(int64_t rows, int64_t columns, int64_t block) {
  return (rows + block - 1) / block * block * columns * 2;
}

// The place of element k of a row, in elements from the beginning.
__host__ __device__ inline int64_t arranged_place(int64_t row, int64_t k, int64_t columns, int64_t block) {
  const int64_t in_block = row % block;
  const int64_t pair = k % 32 / 2;
  const int64_t chunk = (k % 64 / 32 * 4 + pair % 4) ^ in_block % 8;
  return ((row / block * (columns / 64) + k / 64) * block + in_block) * 64 + chunk * 8 + pair / 4 * 2 + k % 2;
}

void arrange(const CudaStream& stream, const ArrangeArgs& args);

}  // namespace crible::cuda
