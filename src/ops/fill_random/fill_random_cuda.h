// Fills device memory with reproducible random values: weights that have no file (--load-format dummy),
// inputs of benches. Element i depends on (seed, i) alone. Writes each byte once.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

// Uniform in (mean - √3·deviation, mean + √3·deviation).
void fill_random(const CudaStream& stream, __nv_bfloat16* out, int64_t count, uint64_t seed, float mean,
                 float deviation);
// E4M3 of a uniform value with deviation 100 (largest 173 of 448).
inline constexpr float kFp8FillDeviation = 100.0f;
void fill_random_fp8(const CudaStream& stream, uint8_t* out, int64_t count, uint64_t seed);
void fill_constant(const CudaStream& stream, float* out, int64_t count, float value);

}  // namespace crible::cuda
