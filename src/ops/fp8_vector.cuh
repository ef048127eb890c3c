// Eight FP8 E4M3 values as one 8-byte access, beside the Bf16Vector of ops/bf16_vector.cuh. What lies beyond
// ±448 saturates; NaN stays NaN.
#pragma once

#include <cuda_fp8.h>

#include <cstdint>

#include "ops/bf16_vector.cuh"

namespace crible::cuda {

struct alignas(8) Fp8Vector {
  __nv_fp8x4_e4m3 quads[2];
};

__device__ inline Fp8Vector load_vector(const uint8_t* p) {
  const uint2 raw = *reinterpret_cast<const uint2*>(p);
  Fp8Vector v;
  *reinterpret_cast<uint2*>(&v) = raw;
  return v;
}
__device__ inline void store_vector(uint8_t* p, const Fp8Vector& v) {
  *reinterpret_cast<uint2*>(p) = *reinterpret_cast<const uint2*>(&v);
}
__device__ inline void to_floats(const Fp8Vector& v, float (&out)[kVector]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float4 quad = static_cast<float4>(v.quads[i]);
    out[4 * i] = quad.x;
    out[4 * i + 1] = quad.y;
    out[4 * i + 2] = quad.z;
    out[4 * i + 3] = quad.w;
  }
}
// values / scale, rounded.
__device__ inline Fp8Vector to_fp8_vector(const float (&values)[kVector], float scale) {
  Fp8Vector v;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    v.quads[i] = __nv_fp8x4_e4m3(make_float4(values[4 * i] / scale, values[4 * i + 1] / scale,
                                             values[4 * i + 2] / scale, values[4 * i + 3] / scale));
  }
  return v;
}

}  // namespace crible::cuda
