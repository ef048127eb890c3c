// The choice of one row's experts by a warp: softmax over all logits, the k largest, largest first; of equal
// ones the lower index first.
#pragma once

#include <cstdint>

#include "ops/bf16_vector.cuh"

namespace crible::cuda {

inline constexpr int kMaxExperts = 512;
inline constexpr int kMaxExpertsPerToken = 16;

// What lane j < k has after choose_experts_of_row(): the j-th expert and its weight.
struct RowChoice {
  int expert = 0;
  float weight = 0;
};

// own: lane l has the logits of the experts l, l + 32, ... All lanes of the warp take part.
template <int kPerLane>
__device__ inline RowChoice choose_experts_of_row(const float (&own)[kPerLane], int experts, int k,
                                                  bool normalise) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  bool finite = true;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) finite = finite && (i * 32 + lane >= experts || isfinite(own[i]));
  finite = __all_sync(~0u, finite);
  uint32_t taken = 0;  // bit i: own[i] was chosen
  float largest = 0;
  float sum = 0;
  RowChoice choice;
  for (int j = 0; j < k; ++j) {
    float best = -INFINITY;
    int best_expert = kMaxExperts;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = i * 32 + lane;
      const bool better = own[i] > best || best_expert == kMaxExperts;
      if (expert < experts && (taken >> i & 1) == 0 && better) {
        best = own[i];
        best_expert = expert;
      }
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(~0u, best, offset);
      const int other_expert = __shfl_xor_sync(~0u, best_expert, offset);
      if (other > best || (!(best > other) && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
    // Comparisons with NaN find nothing, and lanes may disagree.
    best_expert = __shfl_sync(~0u, best_expert, 0);
    best = __shfl_sync(~0u, best, 0);
    if (best_expert % 32 == lane) taken |= 1u << (best_expert / 32);
    if (j == 0) largest = best;
    const float weight = expf(best - largest);
    sum += weight;
    if (lane == j) choice = {best_expert, weight};
  }
  if (!normalise) {
    sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sum += i * 32 + lane < experts ? expf(own[i] - largest) : 0.0f;
    sum = lane_sum<32>(sum);
  }
  choice.weight = finite ? choice.weight / sum : __int_as_float(0x7FFFFFFF);
  return choice;
}

}  // namespace crible::cuda
