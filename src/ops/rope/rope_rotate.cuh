// QK-norm and rotary embedding of one head held by a group of lanes: lane l of kHeadSize / 8 neighbouring
// lanes has the eight elements from 8·l on.
#pragma once

#include "ops/bf16_vector.cuh"
#include "ops/rope/rope_table_cuda.h"

namespace crible::cuda {

// weight: the lane's of the head's RMS norm.
template <int kHeadSize>
__device__ inline void head_norm(float (&x)[kVector], const Bf16Vector& weight, float epsilon) {
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kVector; ++j) sum += x[j] * x[j];
  const float scale = rsqrtf(lane_sum<kHeadSize / kVector>(sum) / kHeadSize + epsilon);
  float w[kVector];
  to_floats(weight, w);
#pragma unroll
  for (int j = 0; j < kVector; ++j) x[j] *= scale * w[j];
}
// weight: [kHeadSize], or null for none.
template <int kHeadSize>
__device__ inline void head_norm(float (&x)[kVector], int lane, const __nv_bfloat16* weight, float epsilon) {
  if (weight != nullptr) head_norm<kHeadSize>(x, load_vector(weight + lane * kVector), epsilon);
}

// The turns of a lane's elements at one position: apart from their use, so that they can be loaded before
// what they turn is there.
template <int kHeadSize>
struct RopeTurns {
  static constexpr int kHalf = kHeadSize / 2;
  static constexpr int kLanesOfHalf = kHalf / kVector;
  float2 turns[kVector];  // interleaved: the first half of them

  __device__ void load(const RopeView& rope, int position, int lane) {
    const float2* row = rope.table + static_cast<int64_t>(position) * kHalf;
    const int first = rope.interleaved ? lane * (kVector / 2) : lane % kLanesOfHalf * kVector;
    const int count = rope.interleaved ? kVector / 2 : kVector;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      if (j < count) turns[j] = row[first + j];
    }
  }
  // All lanes of the warp take part.
  __device__ void apply(float (&x)[kVector], int lane, bool interleaved) const {
    if (interleaved) {
#pragma unroll
      for (int j = 0; j < kVector; j += 2) {
        const float2 turn = turns[j / 2];
        const float a = x[j];
        const float b = x[j + 1];
        x[j] = a * turn.x - b * turn.y;
        x[j + 1] = b * turn.x + a * turn.y;
      }
      return;
    }
    // The partner of element i is i ± d/2, in the lane half the group away.
    const bool low = lane < kLanesOfHalf;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const float other = __shfl_xor_sync(~0u, x[j], kLanesOfHalf);
      const float2 turn = turns[j];
      x[j] = low ? x[j] * turn.x - other * turn.y : x[j] * turn.x + other * turn.y;
    }
  }
};

// All lanes of the warp take part.
template <int kHeadSize>
__device__ inline void rotate(float (&x)[kVector], int lane, const RopeView& rope, int position) {
  RopeTurns<kHeadSize> turns;
  turns.load(rope, position, lane);
  turns.apply(x, lane, rope.interleaved);
}

}  // namespace crible::cuda
