// Eight BF16 values as one 16-byte access: what a thread of every memory-bound kernel loads and stores at
// once. Arithmetic on them is in float32. Also sums over the threads of a block, in a fixed order.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace crible::cuda {

inline constexpr int kVector = 8;  // BF16 values in 16 bytes

struct alignas(16) Bf16Vector {
  __nv_bfloat162 pairs[4];
};

// Through uint4: a struct of pairs would be copied pair by pair.
__device__ inline Bf16Vector load_vector(const __nv_bfloat16* p) {
  const uint4 raw = *reinterpret_cast<const uint4*>(p);
  Bf16Vector v;
  *reinterpret_cast<uint4*>(&v) = raw;
  return v;
}
__device__ inline void store_vector(__nv_bfloat16* p, const Bf16Vector& v) {
  *reinterpret_cast<uint4*>(p) = *reinterpret_cast<const uint4*>(&v);
}

__device__ inline void to_floats(const Bf16Vector& v, float (&out)[kVector]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = __bfloat1622float2(v.pairs[i]);
    out[2 * i] = pair.x;
    out[2 * i + 1] = pair.y;
  }
}
__device__ inline Bf16Vector to_vector(const float (&values)[kVector]) {
  Bf16Vector v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.pairs[i] = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
  return v;
}

// Sum over groups of `kLanes` neighbouring lanes, in every lane.
template <int kLanes>
__device__ inline float lane_sum(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

// Sum over the block (a multiple of 32 threads, at most 1024), in every thread. `shared` holds 32 floats
// and may be used again only after another barrier.
__device__ inline float block_sum(float value, float* shared) {
  value = lane_sum<32>(value);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / 32;
  return lane_sum<32>(lane < warps ? shared[lane] : 0.0f);
}

}  // namespace crible::cuda
