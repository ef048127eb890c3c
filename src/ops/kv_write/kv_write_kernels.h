// One token's key and value of one head into the cache, per cache type and instruction set; all agree
// byte for byte.
#pragma once

#include <cstdint>

namespace crible {

// Where they go: the key is a column of a [head_size, block_size] block, the value a row.
struct KvHeadSlot {
  void* k;         // the column's first element
  void* v;
  float* k_scale;  // the token's; only of integers
  float* v_scale;
  int64_t head_size;
  int64_t block_size;
};

using KvWriteKernel = void (*)(const float* k, const float* v, const KvHeadSlot& slot);

struct KvWriteKernels {
  KvWriteKernel f32, f16, bf16, i8;
};

const KvWriteKernels& kv_write_kernels_scalar();
#if defined(__x86_64__)
const KvWriteKernels& kv_write_kernels_avx2();  // head_size a multiple of 8
#endif

// Integers of a vector with these float32 bits of its largest magnitude: x ≈ round(x · inverse) · scale.
// A vector that holds no finite numbers, or hardly any size, becomes zeros: with scale NaN, which is
// what its every element must then read as, or 0.
struct IntegerScale {
  float scale;
  float inverse;  // 0: all integers are 0
};
inline IntegerScale integer_scale(uint32_t largest_bits) {
  const float largest = __builtin_bit_cast(float, largest_bits);
  if (largest_bits >= 0x7F800000u) return {__builtin_nanf(""), 0.0f};
  if (largest < 0x1p-100f) return {0.0f, 0.0f};  // 127 / largest must stay finite
  return {largest / 127.0f, 127.0f / largest};
}

}  // namespace crible
