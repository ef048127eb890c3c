// out[r, c] = silu(gate_up[r, c]) · gate_up[r, columns + c] on the GPU, BF16 in and out, float32 inside.
// Moves 6·rows·columns bytes. Or in FP8 with scales, for the FP8 product, instead of BF16: 5, and no second
// pass. Limits: columns a multiple of 8; FP8: at most 32,768.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/matmul/fp8_rows.h"

namespace crible::cuda {

struct SiluMulArgs {
  const __nv_bfloat16* gate_up = nullptr;  // [rows, 2 · columns]
  __nv_bfloat16* out = nullptr;            // [rows, columns]
  int64_t rows = 0;
  int64_t columns = 0;
  Fp8Rows quantised;  // where given, out is not written
};

void silu_mul(const CudaStream& stream, const SiluMulArgs& args);

}  // namespace crible::cuda
