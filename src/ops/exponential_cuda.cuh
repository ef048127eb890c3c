// eˣ in float32 on the GPU, bit for bit that of exponential.h, for x up to 0. Included by .cu files.
#pragma once

#include "ops/exponential_constants.h"

namespace crible::cuda {

__device__ inline float exponential_to_one(float x) {
  using namespace exponential_constants;
  if (x < kLowest) return 0.0f;
  const float n = rintf(__fmul_rn(x, kInverseLn2));
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
  // Above kLowest the power is a normal number, so one multiplication is exact where exponential.h needs two.
  return __fmul_rn(p, __int_as_float((static_cast<int>(n) + 127) << 23));
}

}  // namespace crible::cuda
