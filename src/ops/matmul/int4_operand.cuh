// Words of eight 4-bit weights (int4_tiles.h) as registers of mma.m16n8k16, less their zero point, exactly.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace crible::cuda {

// (a & b) | c
__device__ inline uint32_t masked_or(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// Zero point z as what unpacking subtracts: FP16 of 1024 + z has z as its last bits, 64 + z has 16·z.
struct HalfZero {
  uint32_t from_low;   // 1024 + z, twice
  uint32_t from_high;  // -(64 + z), twice
  __device__ explicit HalfZero(uint32_t zero) {
    const uint32_t both = zero | zero << 16;
    from_low = 0x64006400u | both;
    from_high = 0xD400D400u | both << 4;
  }
  // Registers x, y, z, w: columns 0 and 1, 2 and 3, 4 and 5, 6 and 7.
  __device__ uint4 unpack(uint32_t word) const {
    const uint32_t upper = word >> 8;
    return {low(word), high(word), low(upper), high(upper)};
  }

 private:
  __device__ uint32_t low(uint32_t word) const {
    const uint32_t raised = masked_or(word, 0x000F000Fu, 0x64006400u);
    const __half2 value =
        __hsub2(reinterpret_cast<const __half2&>(raised), reinterpret_cast<const __half2&>(from_low));
    return reinterpret_cast<const uint32_t&>(value);
  }
  // The nibbles stand 4 bits higher: 1024 + 16·q.
  __device__ uint32_t high(uint32_t word) const {
    const uint32_t raised = masked_or(word, 0x00F000F0u, 0x64006400u);
    const uint32_t sixteenth = 0x2C002C00u;
    const __half2 value =
        __hfma2(reinterpret_cast<const __half2&>(raised), reinterpret_cast<const __half2&>(sixteenth),
                reinterpret_cast<const __half2&>(from_high));
    return reinterpret_cast<const uint32_t&>(value);
  }
};

// The same in BF16: 128 + z has z as its last bits.
struct Bf16Zero {
  uint32_t from;  // 128 + z, twice
  __device__ explicit Bf16Zero(uint32_t zero) : from(0x43004300u | zero | zero << 16) {}
  __device__ uint4 unpack(uint32_t word) const {
    return {pair(word), pair(word >> 4), pair(word >> 8), pair(word >> 12)};
  }

 private:
  __device__ uint32_t pair(uint32_t word) const {
    const uint32_t raised = masked_or(word, 0x000F000Fu, 0x43004300u);
    const __nv_bfloat162 value = __hsub2(reinterpret_cast<const __nv_bfloat162&>(raised),
                                         reinterpret_cast<const __nv_bfloat162&>(from));
    return reinterpret_cast<const uint32_t&>(value);
  }
};

__device__ inline uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

}  // namespace crible::cuda
