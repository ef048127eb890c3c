// eˣ in float32 on the GPU, bit for bit that of exponential.h, for x up to 0. Included by .cu files.
#pragma once

#include "ops/exponential_constants.h"

namespace crible::cuda {

// For x from exponential_constants::kLowest to 0; elsewhere any value. Without branches and conversions.
__device__ inline float exponential_in_range(float x) {
  using namespace exponential_constants;
  // Adding 1.5 · 2²³ rounds to the nearest integer, ties to even, and leaves it in the low bits.
  constexpr float kRound = 12582912.0f;
  const float shifted = __fadd_rn(__fmul_rn(x, kInverseLn2), kRound);
  const float n = __fadd_rn(shifted, -kRound);
  float r = __fmaf_rn(n, -kLn2High, x);
  r = __fmaf_rn(n, -kLn2Low, r);
  float p = kC7;
  p = __fmaf_rn(p, r, kC6);
  p = __fmaf_rn(p, r, kC5);
  p = __fmaf_rn(p, r, kC4);
  p = __fmaf_rn(p, r, kC3);
  p = __fmaf_rn(p, r, kC2);
  p = __fmaf_rn(p, r, 1.0f);
  p = __fmaf_rn(p, r, 1.0f);
  // The power is a normal number, so one multiplication is exact where exponential.h needs two.
  return __fmul_rn(p, __int_as_float((__float_as_int(shifted) << 23) + 0x3F800000));
}

__device__ inline float exponential_to_one(float x) {
  const float value = exponential_in_range(x);
  return x < exponential_constants::kLowest ? 0.0f : value;
}

}  // namespace crible::cuda
