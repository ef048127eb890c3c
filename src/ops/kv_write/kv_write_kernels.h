// One token's key and value of one head into the cache as half floats, per instruction set. Keys
// go to column k_out of a [head_size, block_size] block, values to the row v_out.
#pragma once

#include <cstdint>

namespace crible {

void kv_write_head_f16_scalar(const float* k, const float* v, uint16_t* k_out, uint16_t* v_out, int64_t head_size,
                              int64_t block_size);
#if defined(__x86_64__)
// head_size a multiple of 8.
void kv_write_head_f16_avx2(const float* k, const float* v, uint16_t* k_out, uint16_t* v_out, int64_t head_size,
                            int64_t block_size);
#endif

}  // namespace crible
