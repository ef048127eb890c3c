// Copies of whole runs of bytes from global memory into shared memory that report to a barrier there (PTX
// ISA, cp.async.bulk), and rings of stages that they fill. Addresses of shared memory are 32-bit; runs and
// their places are multiples of 16 bytes. A run that begins on a line and is long costs the copy engine
// least.
#pragma once

#include <cstdint>

#include "device/cuda/tensor_copy.cuh"

namespace crible::cuda {

inline constexpr int kBarrierBytes = 8;

// Arrives at a barrier of this block; what this thread read before is not overwritten by copies that follow.
__device__ inline void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void bulk_copy(uint32_t shared, const void* global, int bytes, uint32_t barrier,
                                 uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], "
      "%4;" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

// Of what is read once a step: it leaves the L2 cache first, and what was prefetched into it stays.
__device__ inline uint64_t read_once_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline uint64_t ordinary_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// A place in a ring of stages, and the parity of its current lap.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t lap = 0;
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      lap ^= 1;
    }
  }
};

}  // namespace crible::cuda
