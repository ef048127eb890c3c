// Rows [begin, end) of silu_mul, per instruction set; all agree bit for bit.
#pragma once

#include <cstdint>

namespace crible {

struct GatedProduct;

void silu_mul_rows_scalar(const GatedProduct& args, int64_t begin, int64_t end);
#if defined(__x86_64__)
void silu_mul_rows_avx2(const GatedProduct& args, int64_t begin, int64_t end);
#endif

}  // namespace crible
