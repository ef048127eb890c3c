// QK-norm and rotary embedding of one head held by a group of lanes: lane l of kHeadSize / 8 neighbouring
// lanes has the eight elements from 8·l on.
#pragma once

#include "ops/bf16_vector.cuh"
#include "ops/rope/rope_table_cuda.h"

namespace crible::cuda {

// weight: [kHeadSize] of the head's RMS norm, or null for none.
template <int kHeadSize>
__device__ inline void head_norm(float (&x)[kVector], int lane, const __nv_bfloat16* weight, float epsilon) {
  if (weight == nullptr) return;
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kVector; ++j) sum += x[j] * x[j];
  const float scale = rsqrtf(lane_sum<kHeadSize / kVector>(sum) / kHeadSize + epsilon);
  float w[kVector];
  to_floats(load_vector(weight + lane * kVector), w);
#pragma unroll
  for (int j = 0; j < kVector; ++j) x[j] *= scale * w[j];
}

// All lanes of the warp take part.
template <int kHeadSize>
__device__ inline void rotate(float (&x)[kVector], int lane, const RopeView& rope, int position) {
  constexpr int kHalf = kHeadSize / 2;
  const float2* row = rope.table + static_cast<int64_t>(position) * kHalf;
  if (rope.interleaved) {
#pragma unroll
    for (int j = 0; j < kVector; j += 2) {
      const float2 turn = row[lane * (kVector / 2) + j / 2];
      const float a = x[j];
      const float b = x[j + 1];
      x[j] = a * turn.x - b * turn.y;
      x[j + 1] = b * turn.x + a * turn.y;
    }
    return;
  }
  // The partner of element i is i ± d/2, in the lane half the group away.
  constexpr int kLanesOfHalf = kHalf / kVector;
  const bool low = lane < kLanesOfHalf;
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    const float other = __shfl_xor_sync(~0u, x[j], kLanesOfHalf);
    const float2 turn = row[(lane % kLanesOfHalf) * kVector + j];
    x[j] = low ? x[j] * turn.x - other * turn.y : x[j] * turn.x + other * turn.y;
  }
}

}  // namespace crible::cuda
