// Quantises a row that a block of threads holds in registers (fp8_rows.h).
#pragma once

#include <cuda_fp8.h>

#include "ops/bf16_vector.cuh"
#include "ops/matmul/fp8_rows.h"

namespace crible::cuda {

// Largest over groups of `kLanes` neighbouring lanes, in every lane.
template <int kLanes>
__device__ inline float lane_max(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(~0u, value, offset));
  return value;
}

// values[i] of a thread are the columns from (i · blockDim.x + threadIdx.x) · 8; zeros beyond the row.
// `shared` holds 32 floats that nothing else uses. Called by the whole block.
template <int kVectors>
__device__ inline void store_fp8_row(const float (&values)[kVectors][kVector], int columns, int64_t row,
                                     int64_t rows, const Fp8Rows& out, float* shared) {
  constexpr float kLargest = 448.0f;
  constexpr int kBlockLanes = static_cast<int>(kFp8Block) / kVector;
  float largest[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    largest[i] = 0;
#pragma unroll
    for (int j = 0; j < kVector; ++j) largest[i] = fmaxf(largest[i], fabsf(values[i][j]));
  }
  float scale = 1;
  if (!out.blocks) {
    float all = largest[0];
#pragma unroll
    for (int i = 1; i < kVectors; ++i) all = fmaxf(all, largest[i]);
    all = lane_max<32>(all);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = all;
    __syncthreads();
    all = threadIdx.x % 32 < blockDim.x / 32 ? shared[threadIdx.x % 32] : 0.0f;
    all = lane_max<32>(all);
    scale = all > 0 ? all / kLargest : 1.0f;
    if (threadIdx.x == 0) out.scale[row] = scale;
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int column = (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kVector;
    if (out.blocks) {
      const float of_block = lane_max<kBlockLanes>(largest[i]);
      scale = of_block > 0 ? of_block / kLargest : 1.0f;
    }
    if (column >= columns) continue;
    if (out.blocks && threadIdx.x % kBlockLanes == 0)
      out.scale[column / kFp8Block * fp8_padded_rows(rows) + row] = scale;
    const float inverse = 1.0f / scale;
    __nv_fp8x4_e4m3 packed[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      packed[j] =
          __nv_fp8x4_e4m3(make_float4(values[i][4 * j] * inverse, values[i][4 * j + 1] * inverse,
                                      values[i][4 * j + 2] * inverse, values[i][4 * j + 3] * inverse));
    }
    *reinterpret_cast<uint2*>(out.data + row * columns + column) = *reinterpret_cast<const uint2*>(packed);
  }
}

}  // namespace crible::cuda
