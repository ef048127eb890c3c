// out[i] += x[i] on the GPU, BF16, added in float32: the residual connection where a block's result is the sum of
// several GPUs'. Reads 4·count bytes and writes half as many. Limits: count a multiple of 8.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

void add(const CudaStream& stream, const __nv_bfloat16* x, int64_t count, __nv_bfloat16* out);

}  // namespace crible::cuda
