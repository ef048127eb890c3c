// out[r] = x[r] / sqrt(mean(x[r]²) + epsilon) · weight on the GPU: BF16 in and out, float32 inside. One
// block per row. Reads 2·rows·columns bytes and writes as many; the row stays in registers between.
// Or in FP8 with scales, for the FP8 product, instead of BF16: half the bytes written, no second pass.
// Limits: columns a multiple of 8 and at most 16,384; strides multiples of 8. May run in place.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/matmul/fp8_rows.h"

namespace crible::cuda {

struct RmsNormArgs {
  const __nv_bfloat16* x = nullptr;  // [., columns]
  int64_t x_stride = 0;
  const int32_t* row_indices = nullptr;  // row r of out is of row row_indices[r] of x; null: row r
  __nv_bfloat16* out = nullptr;
  int64_t out_stride = 0;
  const __nv_bfloat16* weight = nullptr;  // [columns]
  int64_t rows = 0;
  int64_t columns = 0;
  float epsilon = 0;
  Fp8Rows quantised;  // where given, out is not written
};

void rms_norm(const CudaStream& stream, const RmsNormArgs& args);

}  // namespace crible::cuda
