// Rows [begin, end) of gelu_mul, per instruction set; all agree bit for bit. With y = 2·√(2/π)·(x + 0.044715·x³),
// x/2·(1 + tanh(y/2)) = x / (1 + e^-y): no cancellation where the result is small.
#pragma once

#include <cstdint>

namespace crible {

struct GatedProduct;

// y = x · (kGeluLinear + kGeluCubic · x²).
inline constexpr float kGeluLinear = 1.59576912f;
inline constexpr float kGeluCubic = 0.0713548163f;

void gelu_mul_rows_scalar(const GatedProduct& args, int64_t begin, int64_t end);
#if defined(__x86_64__)
void gelu_mul_rows_avx2(const GatedProduct& args, int64_t begin, int64_t end);
#endif

}  // namespace crible
