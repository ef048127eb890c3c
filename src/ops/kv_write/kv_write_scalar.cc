#include <algorithm>
#include <bit>
#include <cmath>

#include "ops/half.h"
#include "ops/kv_write/kv_write_kernels.h"

namespace crible {
namespace {

template <typename T, typename Convert>
void write(const float* k, const float* v, const KvHeadSlot& slot, Convert convert) {
  T* k_out = static_cast<T*>(slot.k);
  T* v_out = static_cast<T*>(slot.v);
  for (int64_t d = 0; d < slot.head_size; ++d) {
    k_out[d * slot.block_size] = convert(k[d]);
    v_out[d] = convert(v[d]);
  }
}

void write_f32(const float* k, const float* v, const KvHeadSlot& slot) {
  write<float>(k, v, slot, [](float x) { return x; });
}
void write_f16(const float* k, const float* v, const KvHeadSlot& slot) {
  write<uint16_t>(k, v, slot, float_to_half);
}
void write_bf16(const float* k, const float* v, const KvHeadSlot& slot) {
  write<uint16_t>(k, v, slot, float_to_bfloat16);
}

// Returns the scale; out[i · stride].
float write_integers(const float* x, int64_t n, int8_t* out, int64_t stride) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFu);
  const IntegerScale s = integer_scale(largest);
  for (int64_t i = 0; i < n; ++i) {
    out[i * stride] = s.inverse == 0.0f ? int8_t{0} : static_cast<int8_t>(std::nearbyint(x[i] * s.inverse));
  }
  return s.scale;
}

void write_i8(const float* k, const float* v, const KvHeadSlot& slot) {
  *slot.k_scale = write_integers(k, slot.head_size, static_cast<int8_t*>(slot.k), slot.block_size);
  *slot.v_scale = write_integers(v, slot.head_size, static_cast<int8_t*>(slot.v), 1);
}

}  // namespace

const KvWriteKernels& kv_write_kernels_scalar() {
  static constexpr KvWriteKernels kernels = {write_f32, write_f16, write_bf16, write_i8};
  return kernels;
}

}  // namespace crible
