// out[r, c] = silu(gate_up[r, c]) · gate_up[r, columns + c] on the GPU, BF16 in and out, float32 inside.
// Moves 6·rows·columns bytes. Limits: columns a multiple of 8.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

struct SiluMulArgs {
  const __nv_bfloat16* gate_up = nullptr;  // [rows, 2 · columns]
  __nv_bfloat16* out = nullptr;            // [rows, columns]
  int64_t rows = 0;
  int64_t columns = 0;
};

void silu_mul(const CudaStream& stream, const SiluMulArgs& args);

}  // namespace crible::cuda
